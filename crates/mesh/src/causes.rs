//! An error with its causes, as operators read it.
//!
//! In: errors of etcd's client, of streams, of TLS. Out: one line, in which nothing stands twice and no structure of the program.

use std::error::Error;
use tonic::Status;

/// Most characters of a line.
const LONGEST: usize = 500;

/// An error with its causes, in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = words(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = words(error);
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text.chars().take(LONGEST).collect()
}

/// What an error says of itself. A status would show its causes as the program has them; they follow by themselves.
fn words(error: &(dyn Error + 'static)) -> String {
    let boxed = || error.downcast_ref::<Box<Status>>().map(|status| &**status);
    match error.downcast_ref::<Status>().or_else(boxed) {
        Some(status) if status.message().is_empty() => status.code().description().to_owned(),
        Some(status) => status.message().to_owned(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    #[error("does not serve other nodes")]
    struct Outer(#[source] Box<Status>);

    #[test]
    fn a_status_is_told_by_its_words_and_those_of_its_causes() {
        let refused = || Status::from_error(Box::new(io::Error::other("Connection refused (os error 111)")));
        assert_eq!(chain(&refused()), "Connection refused (os error 111)");
        let outer = Outer(Box::new(Status::unavailable("tcp connect error")));
        assert_eq!(chain(&outer), "does not serve other nodes: tcp connect error");
        assert_eq!(chain(&Status::unavailable("")), "The service is currently unavailable");
        assert_eq!(chain(&Status::unavailable("x".repeat(1000))).len(), LONGEST);
    }
}
