use anyhow::{Context as _, Result, bail, ensure};

/// What an ELF file says about where it can run (<https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html>).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Executable {
    /// As images name it: `amd64`, `arm64`.
    pub(crate) architecture: &'static str,
}

const X86_64: u16 = 62;
const AARCH64: u16 = 183;
/// The program header that names a dynamic linker, which the image does not have.
const INTERPRETER: u32 = 3;

impl Executable {
    /// Refuses what would not start in an image that holds nothing else.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self> {
        // 64 bits, little-endian: what both machines are.
        ensure!(bytes.starts_with(b"\x7fELF\x02\x01"), "this is no 64-bit ELF executable");
        let architecture = match half(bytes, 18)? {
            X86_64 => "amd64",
            AARCH64 => "arm64",
            other => bail!("the ELF machine {other} is neither x86-64 nor AArch64"),
        };
        let (table, size, count) = (word(bytes, 32)?, half(bytes, 54)?, half(bytes, 56)?);
        for entry in 0..u64::from(count) {
            let at = entry.checked_mul(size.into()).and_then(|offset| table.checked_add(offset));
            let kind = take::<4>(bytes, at.context(TRUNCATED)?).map(u32::from_le_bytes)?;
            ensure!(kind != INTERPRETER, "it is linked dynamically: build it for a musl target (image/build.sh)");
        }
        Ok(Self { architecture })
    }
}

const TRUNCATED: &str = "the ELF file is truncated";

fn half(bytes: &[u8], at: u64) -> Result<u16> {
    take(bytes, at).map(u16::from_le_bytes)
}

fn word(bytes: &[u8], at: u64) -> Result<u64> {
    take(bytes, at).map(u64::from_le_bytes)
}

fn take<const N: usize>(bytes: &[u8], at: u64) -> Result<[u8; N]> {
    let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..));
    rest.and_then(|rest| rest.first_chunk()).copied().context(TRUNCATED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executable::tests::fixture::elf;
    use rstest::rstest;

    pub(crate) mod fixture {
        /// The headers of an executable with these program headers.
        pub(crate) fn elf(machine: u16, segments: &[u32]) -> Vec<u8> {
            let mut bytes = vec![0; 64];
            bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
            bytes[18..20].copy_from_slice(&machine.to_le_bytes());
            bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
            bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
            bytes[56..58].copy_from_slice(&u16::try_from(segments.len()).unwrap().to_le_bytes());
            for kind in segments {
                let mut segment = [0; 56];
                segment[..4].copy_from_slice(&kind.to_le_bytes());
                bytes.extend(segment);
            }
            bytes
        }
    }

    #[rstest]
    #[case(X86_64, "amd64")]
    #[case(AARCH64, "arm64")]
    fn the_machine_is_the_architecture(#[case] machine: u16, #[case] architecture: &str) {
        assert_eq!(Executable::read(&elf(machine, &[1, 6])).unwrap().architecture, architecture);
    }

    #[test]
    fn this_test_is_linked_dynamically_and_refused() {
        let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(Executable::read(&this).unwrap_err().to_string().starts_with("it is linked dynamically"));
    }

    #[rstest]
    #[case(b"#!/bin/sh\n".to_vec(), "this is no 64-bit ELF executable")]
    #[case(elf(3, &[]), "the ELF machine 3 is neither x86-64 nor AArch64")]
    #[case(elf(X86_64, &[1, INTERPRETER]), "it is linked dynamically: build it for a musl target (image/build.sh)")]
    #[case(elf(X86_64, &[1])[..64].to_vec(), TRUNCATED)]
    #[case(b"\x7fELF\x02\x01".to_vec(), TRUNCATED)]
    fn what_would_not_start_is_refused(#[case] bytes: Vec<u8>, #[case] reason: &str) {
        assert_eq!(Executable::read(&bytes).unwrap_err().to_string(), reason);
    }
}
