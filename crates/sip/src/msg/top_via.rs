//! The topmost Via, read once for each message: every layer asks for it.
//!
//! In: the first value of the first Via line, parsed. Out: the same, rebuilt from places in the message's buffer.
//! Elsewhere: the grammar (`header`), the other hops (`Message::vias`).

use super::index::Span;
use crate::header::{Identity, Params, Via};
use crate::uri::Host;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Where in the buffer the parts of the topmost Via are.
#[derive(Clone, Copy)]
pub(crate) struct TopVia {
    head: Span,
    transport: Span,
    host: TopHost,
    port: Option<u16>,
    params: Span,
    branch: Option<Span>,
}

#[derive(Clone, Copy)]
enum TopHost {
    Name(Span),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl TopVia {
    /// Remembers a Via that was parsed from `text`.
    pub(crate) fn of(via: &Via<'_>, text: &[u8]) -> TopVia {
        let span = |part: &[u8]| Span::of(part, text);
        TopVia {
            head: span(via.head()),
            transport: span(via.transport.as_bytes()),
            host: match via.host {
                Host::Name(name) => TopHost::Name(span(name.as_bytes())),
                Host::V4(address) => TopHost::V4(address),
                Host::V6(address) => TopHost::V6(address),
            },
            port: via.port,
            params: span(via.params.as_bytes()),
            branch: match via.params.identity {
                Some(Identity::Branch(branch)) => Some(span(branch)),
                Some(Identity::Tag(_)) | None => None,
            },
        }
    }

    /// The Via again; `text` is what it was parsed from.
    pub(crate) fn view(self, text: &[u8]) -> Option<Via<'_>> {
        let part = |span: Span| std::str::from_utf8(&text[span.range()]).ok();
        let host = match self.host {
            TopHost::Name(name) => Host::Name(part(name)?),
            TopHost::V4(address) => Host::V4(address),
            TopHost::V6(address) => Host::V6(address),
        };
        let identity = self.branch.map(|branch| Identity::Branch(&text[branch.range()]));
        let params = Params { raw: &text[self.params.range()], identity };
        let head = &text[self.head.range()];
        Some(Via { transport: part(self.transport)?, host, port: self.port, params, head })
    }
}

#[cfg(test)]
mod tests {
    use crate::msg::Message;
    use bytes::Bytes;

    fn message(vias: &str) -> Message {
        Message::parse(Bytes::from(format!("OPTIONS sip:a SIP/2.0\r\n{vias}\r\n"))).unwrap()
    }

    #[test]
    fn the_topmost_via_reads_as_its_value_does() {
        for vias in [
            "Via: SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bK1\r\n",
            "v:  SIP / 2.0 / TCP   host.example.com. ;\r\n ttl=1;branch = z9hG4bK2 , SIP/2.0/UDP b\r\n",
            "Via: SIP/2.0/TLS [2001:db8::1]:5061;received=192.0.2.9\r\nVia: SIP/2.0/UDP c;branch=z9hG4bK3\r\n",
            "Via: sip/2.0/X-Y a;tag=1\r\n",
        ] {
            let msg = message(vias);
            let (top, read) = (msg.top_via().unwrap(), msg.vias().next().unwrap().unwrap());
            assert_eq!((top.transport, top.host, top.port), (read.transport, read.host, read.port), "{vias}");
            assert_eq!((top.head(), top.branch()), (read.head(), read.branch()), "{vias}");
            assert_eq!(top.params.as_bytes(), read.params.as_bytes(), "{vias}");
        }
    }

    #[test]
    fn what_is_no_via_is_not_the_topmost_one() {
        for (vias, is_found_below) in [
            ("", false),
            ("Via: SIP/2.0/UDP\r\nVia: SIP/2.0/UDP a\r\n", false),
            ("Via: , SIP/2.0/UDP a\r\n", false),
            ("Via:\r\nVia: SIP/2.0/UDP a\r\n", true), // an empty line has no value
        ] {
            let msg = message(vias);
            assert!(msg.top_via().is_none(), "{vias}");
            assert_eq!(msg.via().is_ok(), is_found_below, "{vias}");
        }
    }
}
