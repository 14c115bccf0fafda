use cache_registry_api::CollectionRecord;

/// What is to be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Goal {
    /// That this run has removed what nothing needs.
    Collect {
        /// As the record and the Job have it.
        run: String,
    },
    /// That the registry is there, with no record and no Job.
    Restore,
}

/// What [`next_step`] goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Observed {
    /// How many replicas the `StatefulSet` is to have.
    pub(crate) replicas: i32,
    pub(crate) record: Option<CollectionRecord>,
    /// True when all of its replicas are ready.
    pub(crate) ready: bool,
    /// How many of its pods may still have the volume in use.
    pub(crate) registry_pods: usize,
    /// The Job of that name, whoever made it.
    pub(crate) job: Option<Job>,
    /// How many pods of such a Job may still have the volume in use.
    pub(crate) job_pods: usize,
}

/// A Job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    /// The run that made it.
    pub(crate) run: String,
    pub(crate) stage: Stage,
}

/// How far a Job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    Suspended,
    Running,
    Succeeded,
    /// With what it says, or what is said of it.
    Failed(String),
    /// It is being deleted.
    Ending,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// That no pod of the registry is left.
    RegistryPods,
    /// That the Job ends.
    Job,
    /// That no Job and no pod of one is left.
    JobPods,
    /// That the registry is ready.
    Ready,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Scale the registry to zero and write the record, at once.
    Stop,
    /// Create the Job of this run, suspended.
    CreateJob,
    /// Let the Job run.
    StartJob,
    /// Delete the Job.
    DeleteJob,
    /// Scale the registry back. The record stays: it may be read, and not written to.
    ServeReads,
    /// Scale the registry back and take the record away, at once.
    PutBack,
    /// Nothing, until this is so.
    Wait(Awaited),
    /// Nothing more: the goal is reached.
    Done,
    /// Nothing more: the goal can't be reached, and this is why.
    GiveUp(String),
}

/// Decides what to do next. `overdue` is what has been waited for as long as it may be.
pub(crate) fn next_step(goal: &Goal, seen: &Observed, overdue: Option<Awaited>) -> Step {
    let step = match goal {
        Goal::Collect { run } => collect(run, seen),
        Goal::Restore => restore(seen),
    };
    match (goal, step) {
        // The Job is on a node that does not answer, say. What it removes is needed by nothing that can be read.
        (Goal::Restore, Step::Wait(Awaited::JobPods)) if overdue == Some(Awaited::JobPods) && is_away(seen) => {
            Step::ServeReads
        }
        // And it is not over before they are gone, however long that takes.
        (Goal::Restore, Step::Wait(Awaited::JobPods)) => Step::Wait(Awaited::JobPods),
        (_, Step::Wait(awaited)) if overdue == Some(awaited) => Step::GiveUp(awaited.hint().to_owned()),
        (_, step) => step,
    }
}

fn collect(run: &str, seen: &Observed) -> Step {
    let is_ours = |job: &Job| job.run == run;
    let Some(record) = &seen.record else {
        return match &seen.job {
            Some(job) if is_ours(job) && job.stage != Stage::Ending => {
                Step::GiveUp("somebody has taken the record from the StatefulSet in the middle of it".to_owned())
            }
            _ => job_gone(seen).unwrap_or(Step::Stop),
        };
    };
    if record.who != run {
        // Of a run that was cut. It is ended first, and this one begins from there.
        return restore(seen);
    }
    if seen.replicas != 0 {
        let who = "the registry was scaled up in the middle of it, as `helm upgrade` does";
        return Step::GiveUp(format!("{who}; run it again when that is done"));
    }
    match &seen.job {
        Some(job) if is_ours(job) => match &job.stage {
            Stage::Suspended if seen.registry_pods > 0 => Step::Wait(Awaited::RegistryPods),
            Stage::Suspended => Step::StartJob,
            Stage::Running => Step::Wait(Awaited::Job),
            Stage::Succeeded => Step::Done,
            Stage::Failed(why) => Step::GiveUp(why.clone()),
            Stage::Ending => Step::Wait(Awaited::JobPods),
        },
        None if seen.registry_pods > 0 => Step::Wait(Awaited::RegistryPods),
        _ => job_gone(seen).unwrap_or(Step::CreateJob),
    }
}

fn restore(seen: &Observed) -> Step {
    if let Some(step) = job_gone(seen) {
        step
    } else if seen.record.is_some() {
        Step::PutBack
    } else if seen.ready {
        Step::Done
    } else {
        Step::Wait(Awaited::Ready)
    }
}

/// What it takes that no Job and no pod of one are left; `None` when none are.
fn job_gone(seen: &Observed) -> Option<Step> {
    match &seen.job {
        Some(Job { stage: Stage::Ending, .. }) => Some(Step::Wait(Awaited::JobPods)),
        Some(_) => Some(Step::DeleteJob),
        None if seen.job_pods > 0 => Some(Step::Wait(Awaited::JobPods)),
        None => None,
    }
}

/// True while the registry is stopped by what the record tells of.
fn is_away(seen: &Observed) -> bool {
    seen.replicas == 0 && seen.record.as_ref().is_some_and(|record| record.replicas > 0)
}

impl Observed {
    /// How many replicas the registry is to have when it is put back: those that it had, unless somebody has scaled it
    /// since.
    pub(crate) fn wanted(&self) -> i32 {
        let before = self.record.as_ref().map_or(0, |record| record.replicas);
        if self.replicas == 0 { before } else { self.replicas }
    }
}

impl Awaited {
    /// What is wrong when it takes too long, and what to do.
    fn hint(self) -> &'static str {
        match self {
            Self::RegistryPods => "the registry's pods do not end: is their node up? `kubectl describe` tells",
            Self::Job => {
                "the Job has not ended before its deadline: give it more time, registry.garbageCollection.deadlineSeconds"
            }
            Self::JobPods => "the pods of an earlier Job do not end: is their node up? `kubectl describe` tells",
            Self::Ready => "the registry is not ready again: `kubectl describe` of its pod tells why",
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
