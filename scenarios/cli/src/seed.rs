//! Seeds as people give them: decimal, `0x` and hex digits, or a whole git commit hash, so that CI explores new seeds with
//! every commit and anyone can name them again. Mirrors `sim_world::seed`, which this light command does not link.
use crate::problem::Problem;

/// Reads a seed.
pub fn parse(text: &str) -> Result<u64, Problem> {
    let bad = |why: String| Problem::Seed {
        text: text.to_string(),
        why,
    };
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).map_err(|e| bad(format!("not up to 16 hex digits after 0x: {e}")));
    }
    let all_hex = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    let has_letter = text.bytes().any(|b| b.is_ascii_alphabetic());
    if all_hex && (17..=64).contains(&text.len()) && (has_letter || matches!(text.len(), 40 | 64)) {
        // A commit hash: its first 16 digits are as good as all of them. Digits only may be a number that is too large,
        // so they count as a hash only in the two lengths that git prints.
        return u64::from_str_radix(&text[..16], 16).map_err(|e| bad(e.to_string()));
    }
    text.parse().map_err(|_| match all_hex {
        true => bad("write 0x in front of hex digits, or give the commit hash whole (git rev-parse HEAD)".into()),
        false => bad("a seed is a decimal number, 0x and hex digits, or a git commit hash".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_hex_and_commit_hashes_are_seeds() {
        assert_eq!(parse("0").unwrap(), 0);
        assert_eq!(parse("137").unwrap(), 137);
        assert_eq!(parse("18446744073709551615").unwrap(), u64::MAX);
        assert_eq!(parse("0xff").unwrap(), 255);
        assert_eq!(parse("0xFFFFFFFFFFFFFFFF").unwrap(), u64::MAX);
        assert_eq!(
            parse("f859b7b0123456789abcdef0123456789abcdef0").unwrap(),
            0xf859_b7b0_1234_5678
        );
        // A hash may happen to have no letter in it.
        assert_eq!(
            parse("1111111111111111222222222222222233333333").unwrap(),
            0x1111_1111_1111_1111
        );
    }

    #[test]
    fn what_is_no_seed_says_what_would_be() {
        for text in [
            "",
            "x",
            "-1",
            "1.5",
            "0x",
            "0x11111111111111112",
            "18446744073709551616",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        let short_hash = parse("f859b7b").unwrap_err().to_string();
        assert!(short_hash.contains("git rev-parse HEAD"), "{short_hash}");
    }
}
