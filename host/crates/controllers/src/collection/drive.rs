use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::api::{Means, Objects, Sight};
use super::step::{Awaited, Goal, Step, next_step};

/// Between two looks. A look is four small reads; a watch of each of the four would be more than that.
const LOOK: Duration = Duration::from_secs(1);

/// After an error of the API server.
const RETRY: Duration = Duration::from_secs(2);

/// A goal that was reached.
pub(crate) struct Reached {
    /// What was seen then.
    pub(crate) sight: Box<Sight>,
    /// True when something had to be done for it.
    pub(crate) acted: bool,
}

/// Does step after step until the goal is reached, or says why it can't be. The API server is waited for.
pub(crate) async fn drive(objects: &Objects, goal: &Goal, means: &Means) -> Result<Reached, String> {
    let mut waiting: Option<(Awaited, Instant)> = None;
    let mut acted = false;
    loop {
        let sight = match objects.look().await {
            Ok(sight) => Box::new(sight),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                return Err("the registry's StatefulSet is not there any more".to_owned());
            }
            Err(error) => {
                tracing::warn!(%error, "the registry's StatefulSet, the Job or their pods can't be read; trying on");
                sleep(RETRY).await;
                continue;
            }
        };
        let overdue = waiting.filter(|(awaited, since)| since.elapsed() >= awaited.patience(means.deadline));
        let step = next_step(goal, &sight.observed, overdue.map(|(awaited, _)| awaited));
        match step {
            Step::Done => return Ok(Reached { sight, acted }),
            Step::GiveUp(why) => return Err(why),
            Step::Wait(awaited) => {
                if waiting.is_none_or(|(before, _)| before != awaited) {
                    tracing::info!("waiting until {}", awaited.words());
                    waiting = Some((awaited, Instant::now()));
                }
                sleep(LOOK).await;
            }
            step => match objects.act(&step, &sight, means).await {
                Ok(()) => {
                    acted = true;
                    tracing::info!("{}", step.words());
                }
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    tracing::debug!(step = step.words(), "something has changed since; looking again");
                }
                Err(error) => {
                    tracing::warn!(step = step.words(), %error, "this can't be done; trying on");
                    sleep(RETRY).await;
                }
            },
        }
    }
}

impl Awaited {
    fn words(self) -> &'static str {
        match self {
            Self::RegistryPods => "no pod of the registry is left",
            Self::Job => "the Job has ended",
            Self::JobPods => "no pod of the Job is left",
            Self::Ready => "the registry is ready",
        }
    }

    /// How long it is waited for.
    fn patience(self, deadline: Duration) -> Duration {
        match self {
            // The grace of the registry's pods is 30 s.
            Self::RegistryPods | Self::Ready => Duration::from_mins(2),
            // It ends by itself at its deadline, and needs time to start.
            Self::Job => deadline + Duration::from_mins(2),
            Self::JobPods => Duration::from_secs(20),
        }
    }
}

impl Step {
    fn words(&self) -> &'static str {
        match self {
            Self::Stop => "the registry is to stop; pulls go upstream",
            Self::CreateJob => "the Job is made",
            Self::StartJob => "the Job is started",
            Self::DeleteJob => "the Job is to go",
            Self::ServeReads => "the registry is to be there again, for reads alone",
            Self::PutBack => "the registry is to be there again",
            Self::Wait(_) | Self::Done | Self::GiveUp(_) => "nothing is done",
        }
    }
}
