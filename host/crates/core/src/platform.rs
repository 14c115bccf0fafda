use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// What an image or a node runs on: `linux/arm64/v8`.
///
/// Compared as containerd does (<https://github.com/containerd/platforms>), and shown as it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// Which platforms of an index are copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Platforms {
    /// All that it names.
    #[default]
    All,
    /// What nodes of these take from it.
    Of(BTreeSet<Platform>),
}

/// What a person says of [`Platforms`]: `auto`, `all` or a list such as `linux/amd64,linux/arm64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlatformChoice {
    /// Those of the cluster's nodes.
    Auto,
    /// These.
    Fixed(Platforms),
}

/// A text that names no platforms.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no platform: expected auto, all, or a list such as linux/amd64,linux/arm64/v8")]
pub struct InvalidPlatform(String);

impl Platform {
    /// `None` where a word is missing, or is `unknown`: that is how attestations are marked.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Option<Self> {
        let is_known = |word: &str| !word.is_empty() && word != "unknown";
        (is_known(os) && is_known(architecture)).then(|| Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.filter(|variant| !variant.is_empty()).map(str::to_owned),
        })
    }

    /// Whether a node of this platform runs an image of that one as its own: for 32-bit Arm, one of its version or of
    /// an earlier one. A node of which no variant is told takes each of them, and so does one of Windows each build.
    fn takes(&self, image: &Self) -> bool {
        let (node, image) = (self.ordinary(), image.ordinary());
        let fits = match (&self.variant, number(&node), number(&image)) {
            (None, ..) => true,
            (Some(_), Some(most), Some(needed)) => needed <= most,
            (Some(_), ..) => node.2 == image.2,
        };
        fits && (&node.0, &node.1) == (&image.0, &image.1)
    }

    /// Whether a node of this platform runs an image of that one where there is none of its own.
    fn puts_up_with(&self, image: &Self) -> bool {
        let (node, image) = (self.ordinary(), image.ordinary());
        let fits = matches!((&*node.1, &*image.1), ("amd64", "386") | ("arm64", "arm"));
        fits && node.0 == image.0
    }

    /// With one word for what has several.
    fn ordinary(&self) -> (String, String, String) {
        let os = self.os.to_ascii_lowercase();
        let (architecture, variant) =
            (self.architecture.to_ascii_lowercase(), self.variant.as_deref().unwrap_or_default().to_ascii_lowercase());
        let variant = if variant.starts_with(|c: char| c.is_ascii_digit()) { format!("v{variant}") } else { variant };
        let (architecture, variant) = match (&*architecture, &*variant) {
            ("x86_64" | "x86-64" | "amd64", "" | "v1") => ("amd64", "v1"),
            ("x86_64" | "x86-64" | "amd64", other) => ("amd64", other),
            ("aarch64" | "arm64", "" | "v8") => ("arm64", "v8"),
            ("aarch64" | "arm64", other) => ("arm64", other),
            ("i386" | "i686", other) => ("386", other),
            ("arm" | "armhf", "") => ("arm", "v7"),
            ("armel", "") => ("arm", "v6"),
            ("arm" | "armhf" | "armel", other) => ("arm", other),
            (architecture, variant) => (architecture, variant),
        };
        (os, architecture.to_owned(), variant.to_owned())
    }
}

/// The number of an ordinary variant: 8 of `v8`.
fn number((_, _, variant): &(String, String, String)) -> Option<u32> {
    variant.strip_prefix('v')?.parse().ok()
}

impl Platforms {
    /// Which of the platforms that an index offers are wanted, in its order.
    ///
    /// Where it has nothing that is wanted, all of it is: somebody has asked for the image, and a list that is wrong
    /// must not be what a pod waits for.
    pub fn wanted_of(&self, offered: &[&Platform]) -> Vec<bool> {
        let Self::Of(nodes) = self else { return vec![true; offered.len()] };
        let mut wanted = vec![false; offered.len()];
        for node in nodes {
            let fitting = |fits: fn(&Platform, &Platform) -> bool| -> Vec<bool> {
                offered.iter().map(|image| fits(node, image)).collect()
            };
            let own = fitting(Platform::takes);
            let taken = if own.contains(&true) { own } else { fitting(Platform::puts_up_with) };
            for (wanted, taken) in wanted.iter_mut().zip(taken) {
                *wanted |= taken;
            }
        }
        if !wanted.contains(&true) {
            wanted.fill(true);
        }
        wanted
    }

    /// Whether whoever has what is wanted by `other` has what is wanted by these.
    pub fn are_within(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::All) => true,
            (Self::All, Self::Of(_)) => false,
            (Self::Of(these), Self::Of(others)) => these.is_subset(others),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_word = |word: &&str| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        };
        let words: Vec<&str> = text.split('/').filter(is_word).collect();
        let platform = match (&*words, text.split('/').count()) {
            ([os, architecture], 2) => Self::new(os, architecture, None),
            ([os, architecture, variant], 3) => Self::new(os, architecture, Some(variant)),
            _ => None,
        };
        platform.ok_or_else(|| InvalidPlatform(text.chars().take(100).collect()))
    }
}

impl FromStr for PlatformChoice {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "auto" => Ok(Self::Auto),
            "all" => Ok(Self::Fixed(Platforms::All)),
            list => {
                let platforms = list.split(',').map(|platform| platform.trim().parse());
                Ok(Self::Fixed(Platforms::Of(platforms.collect::<Result<_, _>>()?)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn wanted(nodes: &str, offered: &[&str]) -> Vec<String> {
        let Ok(PlatformChoice::Fixed(nodes)) = nodes.parse() else { panic!("{nodes}") };
        let offered: Vec<Platform> = offered.iter().map(|platform| platform.parse().unwrap()).collect();
        let wanted = nodes.wanted_of(&offered.iter().collect::<Vec<_>>());
        let chosen = offered.iter().zip(wanted).filter(|(_, wanted)| *wanted);
        chosen.map(|(platform, _)| platform.to_string()).collect()
    }

    const DEBIAN: [&str; 6] =
        ["linux/amd64", "linux/arm/v5", "linux/arm/v7", "linux/arm64/v8", "linux/386", "linux/s390x"];

    #[rstest]
    #[case::all("all", &DEBIAN, &DEBIAN)]
    #[case::one("linux/amd64", &DEBIAN, &["linux/amd64"])]
    #[case::two("linux/amd64,linux/arm64", &DEBIAN, &["linux/amd64", "linux/arm64/v8"])]
    #[case::with_its_variant("linux/arm64/v8", &["linux/arm64", "linux/arm"], &["linux/arm64"])]
    #[case::of_no_variant_each("linux/arm", &DEBIAN, &["linux/arm/v5", "linux/arm/v7"])]
    #[case::a_version_and_lower("linux/arm/v6", &DEBIAN, &["linux/arm/v5"])]
    #[case::arm_is_v7("linux/arm/v6,linux/s390x", &["linux/arm", "linux/s390x"], &["linux/s390x"])]
    #[case::arm_is_v7_for_v7("linux/arm/v7", &["linux/arm", "linux/arm/v6"], &["linux/arm", "linux/arm/v6"])]
    #[case::levels_of_amd64("linux/amd64/v2", &["linux/amd64", "linux/amd64/v2", "linux/amd64/v3"], &["linux/amd64", "linux/amd64/v2"])]
    #[case::other_words("linux/x86_64,linux/aarch64", &DEBIAN, &["linux/amd64", "linux/arm64/v8"])]
    #[case::what_it_runs_besides("linux/amd64", &["linux/386", "linux/arm64"], &["linux/386"])]
    #[case::arm_on_arm64("linux/arm64", &["linux/arm/v7", "linux/amd64"], &["linux/arm/v7"])]
    #[case::another_system("windows/amd64", &["linux/amd64", "windows/amd64", "windows/amd64"], &["windows/amd64", "windows/amd64"])]
    #[case::nothing_that_is_wanted("linux/riscv64", &["linux/amd64", "windows/amd64"], &["linux/amd64", "windows/amd64"])]
    #[case::nothing_at_all("linux/amd64", &[], &[])]
    fn of_an_index_is_taken_what_the_nodes_take(
        #[case] nodes: &str,
        #[case] offered: &[&str],
        #[case] expected: &[&str],
    ) {
        assert_eq!(wanted(nodes, offered), expected);
    }

    #[rstest]
    #[case("auto", Some(PlatformChoice::Auto))]
    #[case("all", Some(PlatformChoice::Fixed(Platforms::All)))]
    #[case("", None)]
    #[case("amd64", None)]
    #[case("linux/", None)]
    #[case("linux//v8", None)]
    #[case("linux/amd64,", None)]
    #[case("linux/arm/v7/x", None)]
    #[case("unknown/unknown", None)]
    #[case("linux/amd64 windows/amd64", None)]
    fn a_choice_is_read(#[case] text: &str, #[case] expected: Option<PlatformChoice>) {
        assert_eq!(text.parse().ok(), expected);
        if expected.is_none() {
            assert!(text.parse::<PlatformChoice>().unwrap_err().to_string().contains("linux/amd64"));
        }
    }

    #[test]
    fn more_is_wanted_when_one_is_new() {
        let of = |text: &str| match text.parse() {
            Ok(PlatformChoice::Fixed(platforms)) => platforms,
            other => panic!("{other:?}"),
        };
        assert!(of("linux/amd64").are_within(&of("linux/arm64,linux/amd64")) && of("all").are_within(&of("all")));
        assert!(of("linux/amd64").are_within(&of("all")) && !of("all").are_within(&of("linux/amd64")));
        assert!(!of("linux/arm64,linux/amd64").are_within(&of("linux/amd64")));
    }

    #[test]
    fn what_is_for_no_platform_has_none() {
        assert_eq!(Platform::new("unknown", "unknown", None), None);
        assert_eq!(Platform::new("linux", "", None), None);
        assert_eq!(Platform::new("linux", "arm64", Some("")).unwrap().to_string(), "linux/arm64");
    }
}
