//! Answers to STUN keep-alives on a SIP port (RFC 5626 section 4.4.2, RFC 8489).
//!
//! In: a datagram and where it came from. Out: the answer, if it was a Binding request. Nothing is authenticated: the
//! answer tells the sender only its own address. Elsewhere: STUN for media.

use std::net::{IpAddr, SocketAddr};

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER_LEN: usize = 20;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const FINGERPRINT: u16 = 0x8028;
/// No more unknown attributes than this are listed in an error.
const UNKNOWN_MAX: usize = 16;

/// Whether a datagram on a SIP port is meant as STUN: no SIP message begins with such a byte (RFC 5626 section 4.4.2).
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| *first < 4)
}

/// The answer to a Binding request: the address it came from, with FINGERPRINT if the request had one. A request with
/// attributes that must be understood and are not gets error 420 (RFC 8489 section 6.3.1). Anything else, a wrong
/// FINGERPRINT included, gets nothing. The answer exceeds the request by 24 bytes at most, so it amplifies nothing.
pub fn binding_response(request: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    let request = Request::parse(request)?;
    let mut out = Vec::with_capacity(64);
    if request.unknown.is_empty() {
        begin(&mut out, BINDING_SUCCESS, request.transaction_id);
        xor_mapped_address(&mut out, request.transaction_id, from);
    } else {
        begin(&mut out, BINDING_ERROR, request.transaction_id);
        // Class 4, number 20, and no reason phrase: the answer stays short.
        attribute(&mut out, ERROR_CODE, &[0, 0, 4, 20]);
        let types: Vec<u8> = request.unknown.iter().flat_map(|kind| kind.to_be_bytes()).collect();
        attribute(&mut out, UNKNOWN_ATTRIBUTES, &types);
    }
    if request.fingerprint {
        set_length(&mut out, 8);
        let crc = fingerprint(&out);
        attribute(&mut out, FINGERPRINT, &crc.to_be_bytes());
    }
    set_length(&mut out, 0);
    Some(out)
}

struct Request<'a> {
    transaction_id: &'a [u8],
    fingerprint: bool,
    unknown: Vec<u16>,
}

impl Request<'_> {
    fn parse(datagram: &[u8]) -> Option<Request<'_>> {
        let (header, mut rest) = datagram.split_at_checked(HEADER_LEN)?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let kind = u16::from_be_bytes([header[0], header[1]]);
        if kind != BINDING_REQUEST || header[4..8] != MAGIC_COOKIE || length != rest.len() || length % 4 != 0
        {
            return None;
        }
        let mut request = Request { transaction_id: &header[8..], fingerprint: false, unknown: Vec::new() };
        while !rest.is_empty() {
            // FINGERPRINT is the last attribute (RFC 8489 section 14.7).
            if request.fingerprint {
                return None;
            }
            let at = datagram.len() - rest.len();
            let (head, body) = rest.split_at_checked(4)?;
            let kind = u16::from_be_bytes([head[0], head[1]]);
            let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let (value, after) = body.split_at_checked(length.next_multiple_of(4))?;
            rest = after;
            if kind == FINGERPRINT {
                if length != 4 || value != fingerprint(&datagram[..at]).to_be_bytes() {
                    return None;
                }
                request.fingerprint = true;
            } else if must_be_understood(kind) && request.unknown.len() < UNKNOWN_MAX {
                request.unknown.push(kind);
            }
        }
        Some(request)
    }
}

/// Comprehension-required and unknown to us. Credentials are known and ignored: this server asks for none.
fn must_be_understood(kind: u16) -> bool {
    const USERNAME: u16 = 0x0006;
    const MESSAGE_INTEGRITY: u16 = 0x0008;
    const REALM: u16 = 0x0014;
    const NONCE: u16 = 0x0015;
    const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
    const PASSWORD_ALGORITHM: u16 = 0x001d;
    const USERHASH: u16 = 0x001e;
    kind < 0x8000
        && !matches!(
            kind,
            USERNAME
                | MESSAGE_INTEGRITY
                | REALM
                | NONCE
                | MESSAGE_INTEGRITY_SHA256
                | PASSWORD_ALGORITHM
                | USERHASH
        )
}

fn begin(out: &mut Vec<u8>, kind: u16, transaction_id: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&MAGIC_COOKIE);
    out.extend_from_slice(transaction_id);
}

fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Writes the length of all attributes, `more` bytes to come included.
fn set_length(out: &mut [u8], more: usize) {
    let length = (out.len() - HEADER_LEN + more) as u16;
    out[2..4].copy_from_slice(&length.to_be_bytes());
}

/// RFC 8489 section 14.2.
fn xor_mapped_address(out: &mut Vec<u8>, transaction_id: &[u8], from: SocketAddr) {
    let key = MAGIC_COOKIE.iter().chain(transaction_id);
    let port = from.port() ^ u16::from_be_bytes([MAGIC_COOKIE[0], MAGIC_COOKIE[1]]);
    let mut value = vec![0, 0];
    value.extend_from_slice(&port.to_be_bytes());
    match from.ip().to_canonical() {
        IpAddr::V4(address) => {
            value[1] = 1;
            value.extend(address.octets().iter().zip(key).map(|(a, k)| a ^ k));
        }
        IpAddr::V6(address) => {
            value[1] = 2;
            value.extend(address.octets().iter().zip(key).map(|(a, k)| a ^ k));
        }
    }
    attribute(out, XOR_MAPPED_ADDRESS, &value);
}

/// CRC-32 of what comes before the attribute, and "STUN" over it (RFC 8489 section 14.7).
fn fingerprint(before: &[u8]) -> u32 {
    static TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let mut crc = i as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
                bit += 1;
            }
            table[i] = crc;
            i += 1;
        }
        table
    };
    let crc = before.iter().fold(!0u32, |crc, byte| TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8);
    !crc ^ 0x5354_554e
}

#[cfg(test)]
mod tests {
    use super::*;

    const IPV4_RESPONSE: &[u8] = include_bytes!("../tests/vectors/rfc5769/sample2.bin");
    const IPV6_RESPONSE: &[u8] = include_bytes!("../tests/vectors/rfc5769/sample3.bin");
    const ICE_REQUEST: &[u8] = include_bytes!("../tests/vectors/rfc5769/sample1.bin");

    /// A Binding request with the transaction id of RFC 5769.
    fn request(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        begin(&mut out, BINDING_REQUEST, &ICE_REQUEST[8..20]);
        attributes.iter().for_each(|(kind, value)| attribute(&mut out, *kind, value));
        set_length(&mut out, 0);
        out
    }

    fn with_fingerprint(mut request: Vec<u8>) -> Vec<u8> {
        set_length(&mut request, 8);
        let crc = fingerprint(&request);
        attribute(&mut request, FINGERPRINT, &crc.to_be_bytes());
        request
    }

    /// The attribute of that type in a message.
    fn find(message: &[u8], wanted: u16) -> Option<&[u8]> {
        let mut rest = &message[HEADER_LEN..];
        while let Some((head, body)) = rest.split_at_checked(4) {
            let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
            if u16::from_be_bytes([head[0], head[1]]) == wanted {
                return Some(&body[..length]);
            }
            rest = &body[length.next_multiple_of(4)..];
        }
        None
    }

    #[test]
    fn the_mapped_address_is_that_of_rfc_5769() {
        for (address, sample) in [
            ("192.0.2.1:32853", IPV4_RESPONSE),
            ("[::ffff:192.0.2.1]:32853", IPV4_RESPONSE),
            ("[2001:db8:1234:5678:11:2233:4455:6677]:32853", IPV6_RESPONSE),
        ] {
            let answer = binding_response(&request(&[]), address.parse().unwrap()).unwrap();
            assert_eq!(answer[..2], [1, 1]);
            assert_eq!(usize::from(answer[3]), answer.len() - HEADER_LEN);
            assert_eq!(answer[4..20], sample[4..20]);
            assert_eq!(find(&answer, XOR_MAPPED_ADDRESS), find(sample, XOR_MAPPED_ADDRESS));
            assert_eq!(find(&answer, FINGERPRINT), None);
        }
    }

    #[test]
    fn a_fingerprint_is_checked_and_answered() {
        let (before, _) = ICE_REQUEST.split_at(ICE_REQUEST.len() - 8);
        assert_eq!(find(ICE_REQUEST, FINGERPRINT).unwrap(), fingerprint(before).to_be_bytes());

        let good = with_fingerprint(request(&[(0x8022, b"abc")]));
        let from = "192.0.2.1:1".parse().unwrap();
        let answer = binding_response(&good, from).unwrap();
        let (before, last) = answer.split_at(answer.len() - 4);
        assert_eq!(last, fingerprint(&before[..before.len() - 4]).to_be_bytes());
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        assert_eq!(binding_response(&bad, from), None);
        let mut followed = good;
        attribute(&mut followed, 0x8022, b"abcd");
        set_length(&mut followed, 0);
        assert_eq!(binding_response(&followed, from), None);
    }

    #[test]
    fn unknown_attributes_that_matter_get_420() {
        let from = "192.0.2.1:1".parse().unwrap();
        let answer =
            binding_response(&request(&[(0x0003, &[0; 4]), (0x0006, b"user"), (0x0025, b"")]), from).unwrap();
        assert_eq!(answer[..2], [1, 0x11]);
        assert_eq!(find(&answer, ERROR_CODE), Some([0, 0, 4, 20].as_slice()));
        assert_eq!(find(&answer, UNKNOWN_ATTRIBUTES), Some([0, 3, 0, 0x25].as_slice()));
        let many: Vec<(u16, &[u8])> = vec![(0x0003, b""); 200];
        let long = request(&many);
        assert!(binding_response(&long, from).unwrap().len() < long.len());
    }

    #[test]
    fn anything_else_is_not_answered() {
        let from = "192.0.2.1:1".parse().unwrap();
        let good = request(&[]);
        assert!(is_stun(&good) && !is_stun(b"OPTIONS") && !is_stun(b"\r\n\r\n") && !is_stun(b""));
        for length in 0..good.len() {
            assert_eq!(binding_response(&good[..length], from), None);
        }
        for (at, value) in [(0, 0x01), (1, 0x11), (3, 4), (4, 0)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(binding_response(&bad, from), None, "byte {at}");
        }
        assert_eq!(binding_response(IPV4_RESPONSE, from), None);
        let mut overlong = request(&[(0x8022, b"abcd")]);
        overlong[23] = 5;
        assert_eq!(binding_response(&overlong, from), None);
    }
}
