//! Bodies of requests: read within their limits, in time, and paid for as they arrive.
//!
//! In: a body and how long it may be. Out: its octets, with their part of the memory that all large ones share. Elsewhere: who may
//! send how much (`server`, `grpc`).

use crate::http::Problem;
use crate::shares::{Bounds, Part, Shares};
use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::StreamExt as _;
use model::scope::Caller;
use std::sync::LazyLock;
use std::time::Duration;

/// How long a body may take.
const LONGEST: Duration = Duration::from_secs(60);
/// Octets of each body that are not counted.
const FREE: usize = 16 * 1024;
/// KiB of larger bodies that are in memory at the same time, in the whole process: an account has two of the largest.
static MEMORY: LazyLock<Shares> = LazyLock::new(|| {
    let most = 256 * 1024;
    Shares::new(Bounds {
        account: most / 2,
        brand: most / 2,
        brands: most / 4 * 3,
        accounts: most,
        all: most,
    })
});

/// A body, with what it holds of the memory.
pub(crate) type Paid = (Bytes, Option<Part>);

/// Reads a body of at most so many octets. What it needs beyond a small one the caller takes of the memory before it is kept,
/// step by step: announcing costs nobody anything. Without a caller nothing is counted.
///
/// # Errors
///
/// It is longer or broken (413), it does not come (408), there is no memory left (503).
pub(crate) async fn read(body: Body, most: usize, caller: Option<&Caller>) -> Result<Paid, Problem> {
    let reading = collect(body, most, caller, &MEMORY);
    let late = || Problem::new(StatusCode::REQUEST_TIMEOUT, "the body does not come");
    tokio::time::timeout(LONGEST, reading).await.map_err(|_| late())?
}

/// That a body is longer than it may be, or broken.
pub(crate) fn too_large(most: usize) -> Problem {
    let detail = format!("the body is broken or longer than {most} octets");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

async fn collect(body: Body, most: usize, caller: Option<&Caller>, memory: &Shares) -> Result<Paid, Problem> {
    let mut stream = body.into_data_stream();
    let mut octets: Vec<u8> = Vec::new();
    let mut paid = None;
    while let Some(part) = stream.next().await {
        let part = part.map_err(|_| too_large(most))?;
        let length = octets.len() + part.len();
        if length > most {
            return Err(too_large(most));
        }
        if length > octets.capacity() {
            let capacity = length.max(2 * octets.capacity()).min(most);
            if let Some(caller) = caller {
                pay(&mut paid, memory, caller, capacity)?;
            }
            octets.reserve_exact(capacity - octets.len());
        }
        octets.extend_from_slice(&part);
    }
    Ok((octets.into(), paid))
}

/// Takes what is lacking for a body that needs so many octets.
fn pay(paid: &mut Option<Part>, memory: &Shares, caller: &Caller, needed: usize) -> Result<(), Problem> {
    let due = needed.saturating_sub(FREE).div_ceil(1024);
    let step = due.saturating_sub(paid.as_ref().map_or(0, Part::amount));
    if step == 0 {
        return Ok(());
    }
    // Nobody waits for memory while he holds some: two who wait for each other's would wait for ever.
    let taken = match paid {
        Some(paid) => paid.grow(step),
        None => memory.take(caller, step).map(|part| *paid = Some(part)),
    };
    taken.map_err(|_| Problem {
        retry_after: Some(10),
        ..Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many large bodies at once; try again in a moment",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shares::tests::administrator;
    use futures_util::stream;
    use std::convert::Infallible;

    fn parts(sizes: Vec<usize>) -> Body {
        Body::from_stream(stream::iter(sizes.into_iter().map(|size| Ok::<_, Infallible>(vec![7_u8; size]))))
    }

    fn budget() -> Shares {
        Shares::new(Bounds { account: 1000, brand: 1000, brands: 1000, accounts: 1000, all: 1000 })
    }

    #[tokio::test]
    async fn a_body_is_paid_for_while_it_is_there_and_no_longer() {
        let (budget, one, other) = (budget(), administrator(1, Some(1)), administrator(2, Some(2)));
        let small = collect(parts(vec![1000; 16]), FREE, Some(&one), &budget).await.unwrap();
        assert_eq!((small.0.len(), budget.taken()), (16_000, 0));
        let large = collect(parts(vec![1024; 500]), 600 * 1024, Some(&one), &budget).await.unwrap();
        assert_eq!(large.0, vec![7; 500 * 1024]);
        let taken = budget.taken();
        assert!((500 - FREE / 1024..=600 - FREE / 1024).contains(&taken), "{taken}");
        // The second one does not fit beside it, and gives back what it had.
        let second = collect(parts(vec![1024; 1000]), 1024 * 1024, Some(&other), &budget).await.unwrap_err();
        assert_eq!((second.status, second.retry_after), (StatusCode::SERVICE_UNAVAILABLE, Some(10)));
        assert_eq!(budget.taken(), taken);
        drop(large);
        assert_eq!(budget.taken(), 0);
        let uncounted = collect(parts(vec![1024 * 1024; 4]), 4 * 1024 * 1024, None, &budget).await.unwrap();
        assert_eq!((uncounted.0.len(), uncounted.1.is_none()), (4 * 1024 * 1024, true));
    }

    #[tokio::test]
    async fn a_body_that_is_only_announced_costs_nothing() {
        let (budget, caller) = (budget(), administrator(1, None));
        let silent = Body::from_stream(stream::pending::<Result<Vec<u8>, Infallible>>());
        let reading = collect(silent, 64 * 1024 * 1024, Some(&caller), &budget);
        tokio::pin!(reading);
        assert!(futures_util::future::poll_immediate(&mut reading).await.is_none());
        assert_eq!(budget.taken(), 0);
    }

    #[tokio::test]
    async fn one_octet_more_than_allowed_is_refused() {
        assert_eq!(read(parts(vec![50, 50]), 100, None).await.unwrap().0.len(), 100);
        let refused = read(parts(vec![50, 51]), 100, None).await.unwrap_err();
        assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
