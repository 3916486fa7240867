//! The Accept-Encoding header (RFC 9110, 12.5.3).

use crate::bytes::trim;

/// How much a client wants a coding, from 0 (not at all) to 1000. `header` is the value of Accept-Encoding; what it does not name is not
/// wanted unless `*` is. `x-gzip` is gzip's old name. A weight that cannot be read is 0: the plain form is always right.
pub fn weight(header: &[u8], coding: &[u8]) -> u16 {
    let mut by_star = 0;
    for element in header.split(|&byte| byte == b',') {
        let mut parts = element.split(|&byte| byte == b';');
        let name = trim(parts.next().unwrap_or_default());
        let named = is(name, coding);
        if named || name == b"*" {
            let weight = parts.map(trim).find_map(parameter).map_or(1000, |value| value.unwrap_or(0));
            if named {
                return weight;
            }
            by_star = weight;
        }
    }
    by_star
}

fn is(name: &[u8], coding: &[u8]) -> bool {
    name.eq_ignore_ascii_case(coding) || coding == b"gzip" && name.eq_ignore_ascii_case(b"x-gzip")
}

/// The value of `q=`, itself `None` if it is no weight; `None` for other parameters.
fn parameter(part: &[u8]) -> Option<Option<u16>> {
    let equals = part.iter().position(|&byte| byte == b'=')?;
    trim(&part[..equals]).eq_ignore_ascii_case(b"q").then(|| thousandths(trim(&part[equals + 1..])))
}

/// `0`, `0.5`, `1`, `1.000`: at most three digits behind the point.
fn thousandths(value: &[u8]) -> Option<u16> {
    let (whole, rest) = value.split_first()?;
    let digits = match rest {
        [] => &[][..],
        [b'.', digits @ ..] if digits.len() <= 3 => digits,
        _ => return None,
    };
    let mut weight = match whole {
        b'0' => 0,
        b'1' => 1000,
        _ => return None,
    };
    for (digit, unit) in digits.iter().zip([100, 10, 1]) {
        weight += digit.is_ascii_digit().then(|| u16::from(digit - b'0'))? * unit;
    }
    (weight <= 1000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights() {
        for (header, coding, expected) in [
            ("gzip, deflate, br", "br", 1000),
            ("gzip, deflate", "br", 0),
            ("GZIP;q=0.5", "gzip", 500),
            ("x-gzip", "gzip", 1000),
            ("gzip;q=0", "gzip", 0),
            ("gzip ; Q=0.125 , br;q=1.000", "gzip", 125),
            ("gzip;q=0,*", "gzip", 0),
            ("*;q=0.2", "br", 200),
            ("*, br;q=0", "br", 0),
            ("abr", "br", 0),
            ("gzip;level=9;q=0.7", "gzip", 700),
            ("", "gzip", 0),
        ] {
            assert_eq!(weight(header.as_bytes(), coding.as_bytes()), expected, "{header} {coding}");
        }
        for wrong in ["2", "1.1", "0.1234", "", "x", "0,5", "0.x", "-1", "1.001", ".5"] {
            assert_eq!(weight(format!("gzip;q={wrong}").as_bytes(), b"gzip"), 0, "{wrong}");
        }
    }
}
