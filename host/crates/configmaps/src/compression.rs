use std::io::{self, Read};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use crate::Refusal;

/// The largest component, decompressed, in bytes.
pub const LARGEST_COMPONENT: usize = 64 << 20;

/// The largest window of zstd, which a decoder has to hold in memory, as a power of two: 8 MiB, what
/// [RFC 8878](https://www.rfc-editor.org/rfc/rfc8878#name-window-descriptor) asks decoders to support.
const LARGEST_WINDOW: u32 = 23;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A component as it is compiled, of one that may be compressed with gzip or zstd: its first bytes tell.
///
/// It is decompressed twice, the first time to see how long it gets: one that gets too long costs no memory. For a
/// thread that may block.
pub fn decompress(component: Bytes) -> Result<Bytes, Refusal> {
    let decompressed = if component.starts_with(&GZIP) {
        expand("gzip", || Ok(MultiGzDecoder::new(&*component)))?
    } else if component.starts_with(&ZSTD) {
        expand("zstd", || {
            let mut decoder = ZstdDecoder::with_buffer(&*component)?;
            decoder.window_log_max(LARGEST_WINDOW)?;
            Ok(decoder)
        })?
    } else {
        component
    };
    if decompressed.len() > LARGEST_COMPONENT { Err(too_large()) } else { Ok(decompressed) }
}

fn expand<R: Read>(format: &str, decoder: impl Fn() -> io::Result<R>) -> Result<Bytes, Refusal> {
    let damaged = |error: io::Error| {
        let hint = if error.to_string().contains("requires too much memory") {
            "its window is larger than 8 MiB: compress with at most `zstd -19`, and without --long"
        } else {
            "is the file whole?"
        };
        let words = format_args!("the component is compressed with {format} and does not decompress ({error}); {hint}");
        Refusal::new("compression", words)
    };
    let length = length(decoder().map_err(damaged)?).map_err(damaged)?.ok_or_else(too_large)?;
    let mut expanded = Vec::with_capacity(length);
    decoder().and_then(|decoder| decoder.take(length as u64).read_to_end(&mut expanded)).map_err(damaged)?;
    Ok(expanded.into())
}

/// How much there is to read; `None` for more than a component may have.
fn length(mut decoder: impl Read) -> io::Result<Option<usize>> {
    let mut buffer = vec![0; 64 << 10];
    let mut length = 0;
    while length <= LARGEST_COMPONENT {
        match decoder.read(&mut buffer)? {
            0 => return Ok(Some(length)),
            more => length += more,
        }
    }
    Ok(None)
}

fn too_large() -> Refusal {
    let limit = LARGEST_COMPONENT >> 20;
    let words = format_args!("the component is larger than {limit} MiB once it is decompressed: make a smaller one");
    Refusal::new("too-large", words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use rstest::rstest;
    use std::io::Write as _;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd_of(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 3).unwrap()
    }

    #[test]
    fn a_component_is_the_same_plain_or_compressed() {
        let component: Vec<u8> = (0..200_000_u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
        for form in [component.clone(), gzip(&component), zstd_of(&component)] {
            assert!(decompress(form.into()).unwrap() == component);
        }
        let (first, second) = component.split_at(1000);
        for form in [[gzip(first), gzip(second)].concat(), [zstd_of(first), zstd_of(second)].concat()] {
            assert!(decompress(form.into()).unwrap() == component);
        }
    }

    #[rstest]
    #[case::gzip(gzip(&vec![0; LARGEST_COMPONENT + 1]))]
    #[case::zstd(zstd_of(&vec![0; LARGEST_COMPONENT + 1]))]
    #[case::plain(vec![0; LARGEST_COMPONENT + 1])]
    fn one_that_gets_too_large_is_refused(#[case] bomb: Vec<u8>) {
        let refusal = decompress(bomb.into()).unwrap_err();
        assert_eq!((refusal.reason(), refusal.to_string().contains("64 MiB")), ("too-large", true));
    }

    #[test]
    fn the_largest_passes() {
        let largest = gzip(&vec![0; LARGEST_COMPONENT]);
        assert_eq!(decompress(largest.into()).unwrap().len(), LARGEST_COMPONENT);
    }

    #[rstest]
    #[case::gzip(gzip(&[7; 1000]))]
    #[case::zstd(zstd_of(&[7; 1000]))]
    fn one_that_is_cut_off_or_damaged_is_refused(#[case] whole: Vec<u8>) {
        let cut = whole[..whole.len() - 3].to_vec();
        let mut damaged = whole.clone();
        damaged[5..].fill(0xa5);
        for bytes in [cut, damaged, whole[..4].to_vec()] {
            assert_eq!(decompress(bytes.into()).unwrap_err().reason(), "compression");
        }
    }

    #[test]
    fn a_wide_window_of_zstd_is_refused_with_the_way_out() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&[1; 1000]).unwrap();
        let refusal = decompress(encoder.finish().unwrap().into()).unwrap_err().to_string();
        assert!(refusal.contains("zstd -19"), "{refusal}");
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(mut bytes: Vec<u8>, magic in 0..3_usize) {
            let magic: &[u8] = [&GZIP[..], &ZSTD, &[]][magic];
            bytes.splice(..0, magic.iter().copied());
            let _ = decompress(bytes.into());
        }
    }
}
