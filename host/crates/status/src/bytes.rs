use std::fmt;

/// A number of bytes, for people: `14.2 GiB`.
pub(crate) struct Bytes(pub(crate) u64);

const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In tenths, so that no number is too large for it to be exact.
        let mut tenths = u128::from(self.0) * 10;
        let mut unit = None;
        for next in UNITS {
            if tenths < 10_240 {
                break;
            }
            (tenths, unit) = (tenths / 1024, Some(next));
        }
        match unit {
            None => write!(f, "{} B", self.0),
            Some(unit) => write!(f, "{}.{} {unit}", tenths / 10, tenths % 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_unit_that_fits() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (15_250_000_000, "14.2 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), shown);
        }
    }
}
