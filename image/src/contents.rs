use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Where the binary is.
pub(crate) const PROGRAM: &str = "usr/bin/cache-registry";

/// The user and group that the image runs as: what others call `nonroot`.
pub(crate) const USER: u32 = 65532;

/// A file of the image. It belongs to root, and its folders are made for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Without the slash in front.
    pub(crate) path: &'static str,
    pub(crate) mode: u32,
    pub(crate) content: Vec<u8>,
}

/// What stays the same from version to version, so that nodes have it already.
pub(crate) fn base() -> Vec<File> {
    let readable = |path, content: String| File { path, mode: 0o644, content: content.into_bytes() };
    vec![
        readable("etc/group", format!("root:x:0:\nnonroot:x:{USER}:\n")),
        readable("etc/passwd", format!("root:x:0:0::/:/none\nnonroot:x:{USER}:{USER}::/:/none\n")),
        readable("etc/ssl/certs/ca-certificates.crt", certificates()),
        readable("usr/share/doc/cache-registry/LICENSE", include_str!("../../LICENSE").to_owned()),
    ]
}

/// What is new in each version.
pub(crate) fn program(binary: Vec<u8>) -> Vec<File> {
    vec![File { path: PROGRAM, mode: 0o755, content: binary }]
}

/// Mozilla's CA certificates as PEM, of the version that Cargo.lock pins: those of the machine that builds would make
/// the image another one on each. The name and place are Debian's, where programs look for them.
fn certificates() -> String {
    let mut pem = String::new();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        let text = BASE64.encode(certificate);
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in text.as_bytes().chunks(64) {
            pem.extend(line.iter().map(|byte| char::from(*byte)));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_pem_that_reads_back() {
        let pem = certificates();
        let blocks: Vec<Vec<u8>> = pem
            .split_terminator("-----END CERTIFICATE-----\n")
            .map(|block| block.strip_prefix("-----BEGIN CERTIFICATE-----\n").unwrap().replace('\n', ""))
            .map(|block| BASE64.decode(block).unwrap())
            .collect();
        let pinned: Vec<_> = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|der| der.to_vec()).collect();
        assert!(blocks == pinned);
        assert!(blocks.len() > 100, "{}", blocks.len());
        assert!(pem.lines().all(|line| line.len() <= 64));
    }

    #[test]
    fn there_is_no_shell_and_nothing_to_run_but_the_program() {
        let all: Vec<File> = base().into_iter().chain(program(vec![1])).collect();
        let runnable: Vec<_> = all.iter().filter(|file| file.mode & 0o111 != 0).map(|file| file.path).collect();
        assert_eq!(runnable, [PROGRAM]);
    }
}
