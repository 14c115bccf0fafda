use rstest::rstest;

use super::*;

pub(super) fn record(who: &str) -> CollectionRecord {
    CollectionRecord { replicas: 2, who: who.to_owned(), since: jiff::Timestamp::UNIX_EPOCH }
}

fn job(run: &str, stage: Stage) -> Job {
    Job { run: run.to_owned(), stage }
}

/// The registry as it is every day.
fn running() -> Observed {
    Observed { replicas: 2, record: None, ready: true, registry_pods: 2, job: None, job_pods: 0 }
}

/// The registry stopped by a run, without a Job.
fn stopped(who: &str) -> Observed {
    Observed { replicas: 0, record: Some(record(who)), ready: true, registry_pods: 0, ..running() }
}

fn ours() -> Goal {
    Goal::Collect { run: "ours".to_owned() }
}

/// Every step of a run that nothing disturbs.
#[rstest]
#[case(running(), Step::Stop)]
#[case(Observed { registry_pods: 1, ..stopped("ours") }, Step::Wait(Awaited::RegistryPods))]
#[case(stopped("ours"), Step::CreateJob)]
#[case(Observed { job: Some(job("ours", Stage::Suspended)), ..stopped("ours") }, Step::StartJob)]
#[case(Observed { job: Some(job("ours", Stage::Running)), job_pods: 1, ..stopped("ours") }, Step::Wait(Awaited::Job))]
#[case(Observed { job: Some(job("ours", Stage::Succeeded)), ..stopped("ours") }, Step::Done)]
fn a_run_stops_the_registry_then_removes(#[case] seen: Observed, #[case] step: Step) {
    assert_eq!(next_step(&ours(), &seen, None), step);
}

#[rstest]
#[case(Observed { job: Some(job("ours", Stage::Succeeded)), ..stopped("ours") }, Step::DeleteJob)]
#[case(Observed { job: Some(job("ours", Stage::Suspended)), ..stopped("ours") }, Step::DeleteJob)]
#[case(Observed { job: Some(job("ours", Stage::Running)), job_pods: 1, ..stopped("ours") }, Step::DeleteJob)]
#[case(Observed { job: Some(job("ours", Stage::Ending)), job_pods: 1, ..stopped("ours") }, Step::Wait(Awaited::JobPods))]
#[case(Observed { job_pods: 1, ..stopped("ours") }, Step::Wait(Awaited::JobPods))]
#[case(stopped("ours"), Step::PutBack)]
#[case(Observed { ready: false, ..running() }, Step::Wait(Awaited::Ready))]
#[case(running(), Step::Done)]
// A record without anything else: somebody scaled it up.
#[case(Observed { record: Some(record("ours")), ..running() }, Step::PutBack)]
// A Job beside a registry that runs: somebody took the record away.
#[case(Observed { job: Some(job("ours", Stage::Running)), job_pods: 1, ..running() }, Step::DeleteJob)]
fn the_registry_comes_back_from_anywhere(#[case] seen: Observed, #[case] step: Step) {
    assert_eq!(next_step(&Goal::Restore, &seen, None), step);
}

/// What an earlier run has left is ended, and then this one begins.
#[rstest]
#[case(Observed { job: Some(job("theirs", Stage::Running)), job_pods: 1, ..stopped("theirs") }, Step::DeleteJob)]
#[case(Observed { job: Some(job("theirs", Stage::Ending)), ..stopped("theirs") }, Step::Wait(Awaited::JobPods))]
#[case(stopped("theirs"), Step::PutBack)]
#[case(Observed { job: Some(job("theirs", Stage::Succeeded)), ..running() }, Step::DeleteJob)]
#[case(Observed { job_pods: 1, ..running() }, Step::Wait(Awaited::JobPods))]
// One that arrived late beside ours.
#[case(Observed { job: Some(job("theirs", Stage::Suspended)), ..stopped("ours") }, Step::DeleteJob)]
#[case(Observed { job_pods: 1, ..stopped("ours") }, Step::Wait(Awaited::JobPods))]
fn a_run_starts_clean(#[case] seen: Observed, #[case] step: Step) {
    assert_eq!(next_step(&ours(), &seen, None), step);
}

#[rstest]
#[case(Observed { job: Some(job("ours", Stage::Failed("out of memory".to_owned()))), ..stopped("ours") }, "out of memory")]
#[case(Observed { replicas: 1, job: Some(job("ours", Stage::Running)), job_pods: 1, ..stopped("ours") }, "helm upgrade")]
#[case(Observed { replicas: 1, registry_pods: 1, ..stopped("ours") }, "helm upgrade")]
#[case(Observed { job: Some(job("ours", Stage::Running)), job_pods: 1, ..running() }, "record")]
fn a_run_gives_up_when_it_is_disturbed(#[case] seen: Observed, #[case] word: &str) {
    let Step::GiveUp(why) = next_step(&ours(), &seen, None) else { panic!("it goes on") };
    assert!(why.contains(word), "{why}");
}

#[rstest]
#[case(Observed { registry_pods: 1, ..stopped("ours") }, Awaited::RegistryPods)]
#[case(Observed { registry_pods: 1, job: Some(job("ours", Stage::Suspended)), ..stopped("ours") }, Awaited::RegistryPods)]
#[case(Observed { job: Some(job("ours", Stage::Running)), job_pods: 1, ..stopped("ours") }, Awaited::Job)]
#[case(Observed { job_pods: 1, ..stopped("theirs") }, Awaited::JobPods)]
fn a_run_waits_only_so_long(#[case] seen: Observed, #[case] awaited: Awaited) {
    assert_eq!(next_step(&ours(), &seen, None), Step::Wait(awaited));
    let Step::GiveUp(why) = next_step(&ours(), &seen, Some(awaited)) else { panic!("it goes on") };
    assert!(why.contains("kubectl describe") || why.contains("deadlineSeconds"), "{why}");
    // What took too long before is no reason to be impatient now.
    let other = if awaited == Awaited::Ready { Awaited::Job } else { Awaited::Ready };
    assert_eq!(next_step(&ours(), &seen, Some(other)), Step::Wait(awaited));
}

#[test]
fn pods_that_do_not_end_let_the_registry_be_read_and_not_written_to() {
    let seen = Observed { job: Some(job("ours", Stage::Ending)), job_pods: 1, ..stopped("ours") };
    let late = |seen: &Observed| next_step(&Goal::Restore, seen, Some(Awaited::JobPods));
    assert_eq!(late(&seen), Step::ServeReads);
    // The record stays until they are gone, which may be the day after.
    let reading = Observed { replicas: seen.wanted(), registry_pods: 2, ..seen };
    assert_eq!(late(&reading), Step::Wait(Awaited::JobPods));
    assert_eq!(late(&Observed { job: None, job_pods: 0, ..reading }), Step::PutBack);
    // A registry that nobody wanted to run is not run for that.
    let none = Some(CollectionRecord { replicas: 0, ..record("ours") });
    assert_eq!(late(&Observed { record: none, job_pods: 1, ..stopped("ours") }), Step::Wait(Awaited::JobPods));
}

#[rstest]
#[case(stopped("ours"), 2)]
#[case(Observed { replicas: 1, ..stopped("ours") }, 1)]
#[case(running(), 2)]
fn the_registry_gets_back_what_it_had_unless_somebody_scaled_it(#[case] seen: Observed, #[case] replicas: i32) {
    assert_eq!(seen.wanted(), replicas);
}

#[test]
fn a_registry_that_does_not_get_ready_is_reported() {
    let seen = Observed { ready: false, ..running() };
    let step = next_step(&Goal::Restore, &seen, Some(Awaited::Ready));
    assert!(matches!(&step, Step::GiveUp(why) if why.contains("not ready again")), "{step:?}");
}
