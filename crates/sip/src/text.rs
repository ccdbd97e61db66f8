//! Numbers and addresses as text, for messages: pushing bytes costs a tenth of what formatting does.
//!
//! In: numbers, addresses. Out: ASCII. Elsewhere: lines (`draft`, `sdp`).

use std::net::IpAddr;

/// A number as text.
pub(crate) struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    pub(crate) fn of(mut number: u64) -> Decimal {
        let mut decimal = Decimal { digits: [0; 20], start: 20 };
        loop {
            decimal.start -= 1;
            decimal.digits[decimal.start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return decimal;
            }
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

/// Appends an address, an IPv6 address without brackets.
pub(crate) fn push_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            out.extend_from_slice(Decimal::of(a.into()).as_bytes());
            for octet in [b, c, d] {
                out.push(b'.');
                out.extend_from_slice(Decimal::of(octet.into()).as_bytes());
            }
        }
        IpAddr::V6(ip) => out.extend_from_slice(ip.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_addresses_read_as_they_are_formatted() {
        for number in [0, 9, 10, 65_535, u64::MAX] {
            assert_eq!(Decimal::of(number).as_bytes(), number.to_string().as_bytes());
        }
        for text in ["0.0.0.0", "192.0.2.10", "255.255.255.255", "::", "2001:db8::1", "::ffff:192.0.2.1"] {
            let mut out = b"to ".to_vec();
            push_ip(&mut out, text.parse().unwrap());
            assert_eq!(out, format!("to {text}").as_bytes());
        }
    }
}
