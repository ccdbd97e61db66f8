//! Fences and the cluster's id in PostgreSQL.
//!
//! Within a transaction that somebody else began. The row of a fence is locked until its end, so that of two owners the later waits
//! and the earlier is refused.

use super::link::Trouble;
use super::schema::{signed, unsigned};
use crate::config::fence::{ClusterFacts, OwnerFence};
use tokio_postgres::GenericClient;

/// Tables that earlier layouts lack.
pub(super) const SQL: &str = "
CREATE TABLE IF NOT EXISTS fences (kind text NOT NULL, key bigint NOT NULL, fence bigint NOT NULL, PRIMARY KEY (kind, key));
CREATE TABLE IF NOT EXISTS cluster (one boolean PRIMARY KEY DEFAULT true CHECK (one), id text NOT NULL);
ALTER TABLE cluster ADD COLUMN IF NOT EXISTS prefix text;
";

/// Goes on only where no larger fence has been seen, and notes this one.
pub(super) async fn check(tx: &impl GenericClient, owner: &OwnerFence) -> Result<(), Trouble> {
    let sql = "INSERT INTO fences (kind, key, fence) VALUES ($1, $2, $3)
               ON CONFLICT (kind, key) DO UPDATE SET fence = excluded.fence WHERE fences.fence <= excluded.fence";
    let noted = tx.execute(sql, &[&owner.kind, &i64::from(owner.key), &signed(owner.fence)]).await?;
    if noted == 0 { Err(owner.refused().into()) } else { Ok(()) }
}

/// Draws the cluster's id where there is none.
pub(super) async fn prepare(tx: &impl GenericClient) -> Result<(), Trouble> {
    tx.batch_execute(SQL).await?;
    let mut id = [0; 16];
    // It fails where the system has no randomness; another node or start draws it then.
    if aws_lc_rs::rand::fill(&mut id).is_ok() {
        let id = format!("{:032x}", u128::from_be_bytes(id));
        tx.execute("INSERT INTO cluster (id) VALUES ($1) ON CONFLICT DO NOTHING", &[&id]).await?;
    }
    Ok(())
}

/// The facts; this prefix is one of them where none was said before. `None`: the id is missing or no number.
pub(super) async fn facts(tx: &impl GenericClient, prefix: &str) -> Result<Option<ClusterFacts>, Trouble> {
    tx.execute("UPDATE cluster SET prefix = $1 WHERE prefix IS NULL", &[&prefix]).await?;
    let sql = "SELECT (SELECT id FROM cluster), (SELECT coalesce(max(fence), 0) FROM fences),
                      (SELECT prefix FROM cluster)";
    let row = tx.query_one(sql, &[]).await?;
    let (id, largest, prefix): (Option<String>, i64, Option<String>) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let id = id.and_then(|id| u128::from_str_radix(&id, 16).ok());
    let prefix = prefix.unwrap_or_default();
    Ok(id.map(|id| ClusterFacts { id, prefix, largest_fence: unsigned(largest) }))
}
