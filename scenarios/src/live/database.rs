//! The run's own keyspace on somebody's database: made for the run, refused if it is there already, taken away afterwards.
//! Nothing outside it is written, and only a keyspace of this name is ever dropped.
use schema::DesignName;
use scylla::client::session::Session;
use scylla::statement::Statement;
use settlement::Config;
use std::net::SocketAddr;
use std::time::Duration;

/// What every keyspace of a run begins with.
const PREFIX: &str = "quench_live_";
/// Schema changes take longer than reads: nodes have to agree, and Cassandra takes a snapshot of what is dropped.
const DROP_LIMIT: Duration = Duration::from_secs(60);

/// The keyspace of a run: the same seed and design, the same name, so that what a run left can be found.
pub fn keyspace(design: DesignName, seed: u64) -> String {
    // Names of keyspaces have 48 characters at most: 12 here, 17 for the seed, and the longest design has 16.
    format!("{PREFIX}{}_{seed:x}", design.as_str().replace('-', "_"))
}

/// A connection for what a run does to the database besides settling.
pub struct Database {
    session: Session,
}

impl Database {
    /// Connects as settlement does, with its configuration.
    ///
    /// # Errors
    /// Nobody answers, or the database does not want us; in settlement's words.
    pub async fn connect(config: &Config) -> Result<Database, String> {
        let session = settlement::session::connect(config)
            .await
            .map_err(|error| error.to_string())?;
        Ok(Database { session })
    }

    /// Where the nodes answer.
    pub fn nodes(&self) -> Vec<SocketAddr> {
        let state = self.session.get_cluster_state();
        let mut nodes: Vec<SocketAddr> = state
            .get_nodes_info()
            .iter()
            .map(|node| SocketAddr::new(node.address.ip(), node.address.port()))
            .collect();
        nodes.sort_unstable();
        nodes
    }

    /// Whether the keyspace is there.
    ///
    /// # Errors
    /// The question is not answered.
    pub async fn has(&self, keyspace: &str) -> Result<bool, String> {
        let asked = self
            .session
            .query_unpaged(
                "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?",
                (keyspace,),
            )
            .await;
        let rows = asked.map_err(|error| format!("whether keyspace {keyspace} is there cannot be asked: {error}"))?;
        let rows = rows.into_rows_result().map_err(|error| error.to_string())?;
        Ok(rows.rows_num() > 0)
    }

    /// Drops the keyspace of a run.
    ///
    /// # Errors
    /// It is not one of ours, or the database refuses.
    pub async fn drop_keyspace(&self, keyspace: &str) -> Result<(), String> {
        if !keyspace.starts_with(PREFIX) {
            return Err(format!("keyspace {keyspace} is not of a run of ours and stays"));
        }
        let mut statement = Statement::new(format!("DROP KEYSPACE IF EXISTS {keyspace}"));
        statement.set_request_timeout(Some(DROP_LIMIT));
        let dropped = self.session.query_unpaged(statement, ()).await;
        let Err(error) = dropped else {
            return Ok(());
        };
        // The driver also waits until all nodes agree, which a node that has just come back may make late.
        match self.has(keyspace).await {
            Ok(false) => Ok(()),
            _ => Err(format!("keyspace {keyspace} cannot be dropped: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyspace_says_whose_it_is_and_fits_into_a_name() {
        for design in DesignName::ALL {
            let name = keyspace(*design, u64::MAX);
            assert!(name.len() <= 48 && name.starts_with(PREFIX), "{name}");
            assert!(
                name.chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            );
        }
        assert_eq!(keyspace(DesignName::LoggedRmw, 31), "quench_live_logged_rmw_1f");
    }
}
