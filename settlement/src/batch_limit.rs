//! What the database says a batch may weigh before it warns. Scylla and Cassandra have different limits, operators change
//! them, and a batch that is refused is worse than two batches; so it is asked for when settlement starts.

use scylla::client::session::Session;

/// Where a server keeps the setting.
struct Place {
    query: &'static str,
    /// What a number without a unit counts.
    unit_bytes: usize,
}

/// In the order in which they are asked: Scylla; Cassandra from 4.1 on; Cassandra 4.0.
const PLACES: [Place; 3] = [
    Place {
        query: "SELECT value FROM system.config WHERE name = 'batch_size_warn_threshold_in_kb'",
        unit_bytes: KIB,
    },
    Place {
        query: "SELECT value FROM system_views.settings WHERE name = 'batch_size_warn_threshold'",
        unit_bytes: 1,
    },
    Place {
        query: "SELECT value FROM system_views.settings WHERE name = 'batch_size_warn_threshold_in_kb'",
        unit_bytes: KIB,
    },
];

const KIB: usize = 1 << 10;

/// The weight, bytes, above which the database warns about a batch. One that does not say, or that does not let this user
/// see it, is taken for one with the lowest limit that any has by default.
pub async fn ask(session: &Session) -> usize {
    for place in &PLACES {
        if let Some(value) = read(session, place.query).await
            && let Some(bytes) = parse(&value, place.unit_bytes)
        {
            return bytes;
        }
    }
    tracing::warn!(
        target: "settlement", bytes = schema::size::WARN_BYTES,
        "the database does not say how heavy a batch may be, so Cassandra's default limit is kept"
    );
    schema::size::WARN_BYTES
}

async fn read(session: &Session, query: &str) -> Option<String> {
    let rows = session.query_unpaged(query, ()).await.ok()?.into_rows_result().ok()?;
    rows.maybe_first_row::<(String,)>().ok()?.map(|(value,)| value)
}

/// `5KiB`, `1MiB`, `5120B` or, with the unit that the place has, `128`.
fn parse(value: &str, unit_bytes: usize) -> Option<usize> {
    let value = value.trim();
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let unit_bytes = match unit.trim() {
        "" => unit_bytes,
        "B" => 1,
        "KiB" => KIB,
        "MiB" => KIB << 10,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(unit_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_in_the_words_of_each_server() {
        let cases = [
            ("5KiB", 1, Some(5_120)),
            ("1MiB", 1, Some(1 << 20)),
            ("5120B", KIB, Some(5_120)),
            ("128", KIB, Some(131_072)),
            (" 5 KiB ", 1, Some(5_120)),
            ("", KIB, None),
            ("null", 1, None),
            ("-1", KIB, None),
            ("5GiB", 1, None),
            ("99999999999999999999", 1, None),
            ("9999999999999999999", KIB, None),
        ];
        for (value, unit_bytes, expected) in cases {
            assert_eq!(parse(value, unit_bytes), expected, "{value:?}");
        }
    }
}
