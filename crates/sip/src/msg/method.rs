//! Methods (RFC 3261 section 7.1 and its extensions).

use crate::header::lex::is_token;
use bytes::Bytes;
use std::fmt;

/// A method. Unknown ones keep their spelling: methods are case-sensitive.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the method of that name")]
pub enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Register,
    Options,
    Prack,
    Update,
    Info,
    Refer,
    Notify,
    Subscribe,
    Message,
    Publish,
    /// Any other token.
    Other(Bytes),
}

impl Method {
    /// The method of that name; `None` when it is no token.
    pub fn parse(name: &[u8]) -> Option<Method> {
        Method::known(name).or_else(|| is_token(name).then(|| Method::Other(Bytes::copy_from_slice(name))))
    }

    /// The method of that name, if it is one of those we know.
    pub(crate) fn known(name: &[u8]) -> Option<Method> {
        Some(match name {
            b"INVITE" => Method::Invite,
            b"ACK" => Method::Ack,
            b"BYE" => Method::Bye,
            b"CANCEL" => Method::Cancel,
            b"REGISTER" => Method::Register,
            b"OPTIONS" => Method::Options,
            b"PRACK" => Method::Prack,
            b"UPDATE" => Method::Update,
            b"INFO" => Method::Info,
            b"REFER" => Method::Refer,
            b"NOTIFY" => Method::Notify,
            b"SUBSCRIBE" => Method::Subscribe,
            b"MESSAGE" => Method::Message,
            b"PUBLISH" => Method::Publish,
            _ => return None,
        })
    }

    /// The name on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Method::Other(name) => name,
            Method::Invite => b"INVITE",
            Method::Ack => b"ACK",
            Method::Bye => b"BYE",
            Method::Cancel => b"CANCEL",
            Method::Register => b"REGISTER",
            Method::Options => b"OPTIONS",
            Method::Prack => b"PRACK",
            Method::Update => b"UPDATE",
            Method::Info => b"INFO",
            Method::Refer => b"REFER",
            Method::Notify => b"NOTIFY",
            Method::Subscribe => b"SUBSCRIBE",
            Method::Message => b"MESSAGE",
            Method::Publish => b"PUBLISH",
        }
    }

    /// The name on the wire. A method that is no text (none that was parsed) has an empty one.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways_and_are_case_sensitive() {
        for name in
            ["INVITE", "ACK", "BYE", "CANCEL", "REGISTER", "OPTIONS", "PRACK", "UPDATE", "INFO", "REFER"]
        {
            let method = Method::parse(name.as_bytes()).unwrap();
            assert!(!matches!(method, Method::Other(_)));
            assert_eq!(method.as_str(), name);
        }
        assert_eq!(Method::parse(b"Invite"), Some(Method::Other(Bytes::from_static(b"Invite"))));
        assert_eq!(Method::parse(b"RE%47IST%45R").unwrap().to_string(), "RE%47IST%45R");
        assert_eq!(Method::parse(b""), None);
        assert_eq!(Method::parse(b"A B"), None);
    }
}
