use crate::{Container, Image, Pod, Rewritten, Verdict};

/// Says which images are cached.
pub trait Filter {
    /// Asked about a container and its image, in the order of the set, until a policy does not pass.
    fn filter(&self, pod: &Pod, container: &Container, image: &Image) -> Verdict;

    /// What is wrong with settings that could be read, in words for the person who wrote them. Asked once, before the
    /// policy goes live.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Says under which reference nodes pull what is cached.
pub trait Rewrite {
    /// Asked about a container and its image, after the filters said [`Verdict::Cache`], in the order of the set,
    /// until a policy answers with a reference. `None` is no opinion. An error, in words for the pod's author, leaves
    /// the image as it is, with a warning.
    fn rewrite(&self, pod: &Pod, container: &Container, image: &Image) -> Result<Option<Rewritten>, String>;

    /// As [`Filter::check`]. A policy that does both is asked both.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}
