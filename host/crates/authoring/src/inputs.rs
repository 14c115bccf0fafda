use std::fmt::Display;
use std::fs;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use cache_registry_core::NodeAddress;
use cache_registry_webhook::{Decide, Explanation, explain};
use clap::Args;

use crate::Failure;
use crate::pods::{Pods, pods};

/// The pods that a command is about.
#[derive(Debug, Args)]
pub(crate) struct Inputs {
    /// What is decided on, YAML or JSON: pods, objects with a template for pods (Deployment, CronJob, …), lists of them,
    /// AdmissionReviews; - for standard input. May be given several times
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    filenames: Vec<PathBuf>,
    /// The namespace of pods that do not say theirs
    #[arg(short, long, default_value = "default")]
    namespace: String,
}

/// A pod that was decided on.
#[derive(Debug)]
pub(crate) struct Explained {
    pub(crate) explanation: Explanation,
    /// What it comes from.
    pub(crate) origin: String,
    /// What to call it while it has no name.
    pub(crate) name: Option<String>,
}

impl Inputs {
    /// Lets all pods be decided on.
    pub(crate) async fn explain<D: Decide>(
        &self,
        decide: &D,
        node: &NodeAddress,
        notes: &mut impl Write,
    ) -> Result<Vec<Explained>, Failure> {
        let mut explained = Vec::new();
        for path in &self.filenames {
            let (shown, text) = read(path)?;
            let misread = |error: &dyn Display| Failure::bad_input(format_args!("{shown}: {error}"));
            let Pods { asked, others } = pods(&text, &self.namespace).map_err(|error| misread(&error))?;
            for other in others {
                writeln!(notes, "{shown}: {other}")?;
            }
            for asked in asked {
                let explanation = explain(&asked.review, decide, node).await;
                let explanation = explanation.map_err(|refusal| misread(&asked.misread(&text, &refusal)))?;
                explained.push(Explained { explanation, origin: asked.origin, name: asked.name });
            }
        }
        if explained.is_empty() {
            return Err(Failure::bad_input(
                "there is no pod in what -f names: give it a Pod, an object with a template for pods, such as a \
                 Deployment or a CronJob, a List of them, or an AdmissionReview",
            ));
        }
        Ok(explained)
    }
}

/// What a file is called in messages, and its text.
fn read(path: &Path) -> Result<(String, String), Failure> {
    if path == Path::new("-") {
        let mut text = String::new();
        let read = io::stdin().read_to_string(&mut text);
        return read
            .map(|_| ("standard input".to_owned(), text))
            .map_err(|error| Failure::bad_input(format_args!("cannot read standard input: {error}")));
    }
    let text = fs::read_to_string(path).map_err(|error| Failure::unread(path, &error))?;
    Ok((path.display().to_string(), text))
}
