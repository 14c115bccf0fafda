use super::*;
use cache_registry_api::CachedImageSpec;
use rstest::rstest;

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn now() -> Timestamp {
    "2026-03-01T12:00:00.75Z".parse().unwrap()
}

fn minutes(minutes: i64) -> Timestamp {
    now() + jiff::SignedDuration::from_mins(minutes)
}

/// The moment of the decision, on the clock that nobody sets.
fn moment() -> Instant {
    static MOMENT: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(|| Instant::now() + Duration::from_hours(1));
    *MOMENT
}

/// So many minutes after it.
fn after(minutes: u64) -> Instant {
    moment() + Duration::from_mins(minutes)
}

fn image() -> CachedImage {
    let spec = CachedImageSpec { source_image: "docker.io/library/nginx:1.27".to_owned(), retain: false };
    let mut image = CachedImage::new("nginx", spec);
    image.metadata.generation = Some(3);
    image
}

/// An image whose status says so, as of an hour ago.
fn saying(status: &str, reason: &str) -> CachedImage {
    let mut image = image();
    let condition = Condition {
        type_: READY.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: "As it was.".to_owned(),
        observed_generation: Some(3),
        last_transition_time: time(minutes(-60)),
    };
    image.status = Some(CachedImageStatus {
        conditions: vec![condition],
        digest: Some(DIGEST.to_owned()),
        size: Some(7),
        platforms: vec!["linux/amd64".to_owned()],
        last_copied: Some(time(minutes(-60))),
        last_checked: Some(time(minutes(-60))),
        used_by: Some(UsedBy { count: 1, pods: vec!["ns/a".to_owned()], workloads: Vec::new() }),
        observed_generation: Some(3),
        ..CachedImageStatus::default()
    });
    image
}

fn kept() -> Kept {
    Kept {
        digest: DIGEST.to_owned(),
        size: 42,
        platforms: vec!["linux/arm64".to_owned()],
        notes: Vec::new(),
        at: now(),
    }
}

fn cached(check_at: Instant) -> Standing {
    Standing::Cached { copied: None, checked: now(), check_at }
}

fn failed(task: Task, reason: Reason, retry_at: Instant) -> Standing {
    let failure = Failure { reason, message: "It broke, mend it".to_owned(), retry_after: None };
    Standing::Failed { task, failure, retry_at }
}

/// What is known before anything of the cluster is.
fn facts(standing: &Standing) -> Facts<'_> {
    Facts {
        standing,
        used_by: None,
        used: Use::Unknown,
        originals: Vec::new(),
        expiry_delay: Duration::from_mins(30),
        makes_room: false,
        may_expire: true,
        freshness: &Freshness::Fixed,
        update_interval: Duration::from_hours(1),
        quiet_until: None,
    }
}

fn decide(image: &CachedImage, standing: &Standing) -> Action {
    plan(image, Now { instant: moment(), time: now() }, &facts(standing))
}

/// What is to be written, and when to wake.
fn reported(image: &CachedImage, standing: &Standing) -> (Option<CachedImageStatus>, Option<Instant>) {
    match decide(image, standing) {
        Action::Report { status, wake } => (status.map(|status| *status), wake),
        other => panic!("{other:?}"),
    }
}

fn condition(status: &CachedImageStatus) -> (&str, &str, &str) {
    let [condition] = status.conditions.as_slice() else { panic!("{:?}", status.conditions) };
    (&condition.status, &condition.reason, &condition.message)
}

#[rstest]
#[case::new(&image(), Task::Copy)]
#[case::cached(&saying("True", "Cached"), Task::Check)]
#[case::not_seen(&saying("Unknown", "RegistryUnreachable"), Task::Check)]
#[case::a_copy_that_was_cut_short(&saying("False", "Copying"), Task::Copy)]
#[case::failed(&saying("False", "NotFound"), Task::Copy)]
#[case::cached_but_of_no_known_digest(&without_digest(), Task::Copy)]
fn a_new_leader_asks_the_registry_whatever_the_status_says(#[case] image: &CachedImage, #[case] task: Task) {
    assert_eq!(decide(image, &Standing::Unknown), Action::Start(task));
}

fn without_digest() -> CachedImage {
    let mut image = saying("True", "Cached");
    image.status.as_mut().unwrap().digest = None;
    image
}

#[rstest]
#[case::check_due(&cached(moment()), Some(Task::Check))]
#[case::check_not_due(&cached(after(1)), None)]
#[case::copy_due(&failed(Task::Copy, Reason::NotFound, moment()), Some(Task::Copy))]
#[case::copy_not_due(&failed(Task::Copy, Reason::NotFound, after(1)), None)]
#[case::check_again_due(&failed(Task::Check, Reason::RegistryUnreachable, moment() - Duration::from_mins(1)), Some(Task::Check))]
#[case::check_again_not_due(&failed(Task::Check, Reason::RegistryUnreachable, after(1)), None)]
#[case::missing(&Standing::Missing, Some(Task::Copy))]
#[case::waiting(&Standing::Waiting, None)]
#[case::copying(&Standing::Copying, None)]
#[case::checking(&Standing::Checking, None)]
fn a_task_starts_when_it_is_due_and_not_twice(#[case] standing: &Standing, #[case] task: Option<Task>) {
    match decide(&saying("True", "Cached"), standing) {
        Action::Start(started) => assert_eq!(Some(started), task),
        Action::Report { .. } => assert_eq!(None, task),
        Action::Expire => panic!("nothing is known of its use"),
    }
}

#[rstest]
#[case(&cached(after(50)), Some(after(50)))]
#[case(&failed(Task::Copy, Reason::NotFound, after(3)), Some(after(3)))]
#[case(&Standing::Copying, None)]
fn wakes_when_something_will_be_due(#[case] standing: &Standing, #[case] wake: Option<Instant>) {
    assert_eq!(reported(&saying("True", "Cached"), standing).1, wake);
}

#[test]
fn a_finished_copy_tells_all_it_knows() {
    let standing = Standing::Cached { copied: Some(kept()), checked: now(), check_at: after(60) };
    let mut image = saying("False", "Copying");
    image.metadata.generation = Some(4);
    let status = reported(&image, &standing).0.unwrap();
    assert_eq!(condition(&status), ("True", "Cached", "The registry has it as docker.io/library/nginx:1.27."));
    assert_eq!((status.digest.as_deref(), status.size), (Some(DIGEST), Some(42)));
    assert_eq!(status.platforms, ["linux/arm64"]);
    assert_eq!((&status.last_copied, &status.last_checked), (&Some(time(now())), &Some(time(now()))));
    assert_eq!((status.observed_generation, status.conditions[0].observed_generation), (Some(4), Some(4)));
    assert_eq!(status.conditions[0].last_transition_time, time(now()));
}

#[rstest]
#[case::first(&image(), Some(("False", "Copying", "Copying from docker.io.")))]
#[case::lost_by_the_registry(&saying("True", "Cached"), Some(("False", "Copying", "Copying from docker.io.")))]
#[case::another_attempt(&saying("False", "RateLimited"), None)]
fn a_failure_stands_until_an_attempt_has_ended(#[case] image: &CachedImage, #[case] says: Option<(&str, &str, &str)>) {
    let status = reported(image, &Standing::Copying).0;
    assert_eq!(status.as_ref().map(condition), says);
}

#[test]
fn one_that_waits_says_so() {
    let status = reported(&image(), &Standing::Waiting).0.unwrap();
    assert_eq!(condition(&status), ("False", "Copying", "Waiting for its turn to be copied from docker.io."));
}

#[rstest]
#[case(Reason::NotFound)]
#[case(Reason::Unauthorized)]
#[case(Reason::RateLimited)]
#[case(Reason::UpstreamUnreachable)]
#[case(Reason::RegistryUnreachable)]
fn a_failed_copy_is_not_ready_and_says_why(#[case] reason: Reason) {
    let status = reported(&saying("False", "Copying"), &failed(Task::Copy, reason, after(1))).0.unwrap();
    let message = "It broke, mend it. It is tried again without being asked.";
    assert_eq!(condition(&status), ("False", reason.as_str(), message));
    assert_eq!(status.conditions[0].last_transition_time, time(minutes(-60)), "it was not ready before either");
}

#[test]
fn a_failed_check_does_not_say_that_the_image_is_gone() {
    let image = saying("True", "Cached");
    let status = reported(&image, &failed(Task::Check, Reason::RegistryUnreachable, after(1))).0.unwrap();
    let (ready, reason, _) = condition(&status);
    assert_eq!((ready, reason), ("Unknown", "RegistryUnreachable"));
    assert_eq!((status.digest.as_deref(), status.size), (Some(DIGEST), Some(7)));
}

#[test]
fn a_source_that_is_no_reference_is_told_and_not_tried() {
    let mut image = image();
    image.spec.source_image = "Not A Reference".to_owned();
    for standing in [Standing::Unknown, cached(moment()), failed(Task::Copy, Reason::NotFound, moment())] {
        let (status, wake) = reported(&image, &standing);
        let status = status.unwrap();
        let (ready, reason, message) = condition(&status);
        assert_eq!((ready, reason, wake), ("False", "InvalidReference", None));
        assert!(message.contains("\"Not A Reference\" is not an image reference"), "{message}");
    }
}

#[test]
fn one_that_is_being_deleted_is_left_alone() {
    let mut image = saying("True", "Cached");
    image.metadata.deletion_timestamp = Some(time(now()));
    for standing in [Standing::Unknown, Standing::Copying, cached(moment())] {
        assert_eq!(reported(&image, &standing), (None, None));
    }
}

#[test]
fn what_was_written_is_not_written_again() {
    let standings = [
        Standing::Waiting,
        Standing::Copying,
        Standing::Cached { copied: Some(kept()), checked: now(), check_at: after(60) },
        failed(Task::Copy, Reason::RateLimited, after(1)),
        failed(Task::Check, Reason::RegistryUnreachable, after(1)),
    ];
    for standing in standings {
        let mut image = image();
        let written = reported(&image, &standing).0.unwrap();
        // As it comes back from the API server: what JSON cannot hold (parts of a second) is lost on the way.
        image.status = Some(serde_json::from_value(serde_json::to_value(written).unwrap()).unwrap());
        let later = Now { instant: moment() + Duration::from_secs(30), time: now() + Duration::from_secs(30) };
        let later = plan(&image, later, &facts(&standing));
        assert!(matches!(later, Action::Report { status: None, .. }), "{standing:?}: {later:?}");
    }
}

#[rstest]
#[case::a_new_leader(minutes(-10), None)]
#[case::an_hourly_check(minutes(-58), None)]
#[case::a_day_later(minutes(-24 * 60), Some(time(now())))]
fn a_check_is_told_when_the_last_is_old(#[case] last: Timestamp, #[case] told: Option<Time>) {
    let mut image = saying("True", "Cached");
    let standing = cached(after(60));
    image.status = reported(&image, &standing).0;
    image.status.as_mut().unwrap().last_checked = Some(time(last));
    assert_eq!(reported(&image, &standing).0.and_then(|status| status.last_checked), told);
}

#[test]
fn pods_are_told_when_they_are_known() {
    let image = saying("False", "NotFound");
    let pods = |used_by| {
        let facts = Facts { used_by, ..facts(&Standing::Checking) };
        plan(&image, Now { instant: moment(), time: now() }, &facts)
    };
    assert_eq!(pods(None), Action::Report { status: None, wake: None });
    assert_eq!(pods(image.status.clone().unwrap().used_by), Action::Report { status: None, wake: None });
    let Action::Report { status: Some(status), .. } = pods(Some(UsedBy::default())) else { panic!("nothing to write") };
    assert_eq!(status.used_by, Some(UsedBy::default()));
    assert_eq!(status.conditions, image.status.unwrap().conditions);
}

/// Over every standing and every status: True is only ever said by a standing that the registry vouched for.
#[test]
fn ready_is_true_only_when_the_registry_said_so() {
    let statuses = [
        image(),
        saying("False", "Copying"),
        saying("False", "NotFound"),
        saying("Unknown", "RegistryUnreachable"),
        without_digest(),
    ];
    let standings = [
        Standing::Unknown,
        Standing::Missing,
        Standing::Waiting,
        Standing::Copying,
        Standing::Checking,
        cached(moment()),
        cached(after(1)),
        failed(Task::Copy, Reason::NotFound, after(1)),
        failed(Task::Check, Reason::RegistryUnreachable, after(1)),
    ];
    for image in &statuses {
        for standing in &standings {
            let Action::Report { status: Some(status), .. } = decide(image, standing) else { continue };
            let says_true = status.ready().is_some_and(|ready| ready.status == "True");
            let was_true = ready(image).is_some_and(|ready| ready.status == "True");
            let vouched = matches!(standing, Standing::Cached { .. });
            assert!(!says_true || vouched || was_true, "{standing:?} {status:?}");
        }
    }
}

/// Of an image that is cached, while that much is known of its use.
fn with_use(image: &CachedImage, used: Use, may_expire: bool) -> Action {
    let standing = cached(after(45));
    let facts = Facts { used, may_expire, ..facts(&standing) };
    plan(image, Now { instant: moment(), time: now() }, &facts)
}

/// An image whose status says that nothing has used it for so many minutes.
fn unused_for(minutes_ago: i64) -> CachedImage {
    let mut image = saying("True", "Cached");
    let status = image.status.as_mut().unwrap();
    status.unused_since = Some(time(minutes(-minutes_ago)));
    status.expires_at = Some(time(minutes(30 - minutes_ago)));
    image
}

fn written(action: Action) -> (CachedImageStatus, Option<Instant>) {
    let Action::Report { status: Some(status), wake } = action else { panic!("{action:?}") };
    (*status, wake)
}

#[test]
fn what_is_not_used_any_more_says_when_it_goes_and_wakes_for_it() {
    let (status, wake) = written(with_use(&saying("True", "Cached"), Use::Unused, true));
    assert_eq!((status.unused_since, status.expires_at), (Some(time(now())), Some(time(minutes(30)))));
    assert_eq!(wake, Some(after(30)));
}

#[test]
fn what_is_used_again_does_not_go() {
    let (status, wake) = written(with_use(&unused_for(40), Use::Used, true));
    assert_eq!((status.unused_since, status.expires_at, wake), (None, None, Some(after(45))));
}

#[test]
fn what_is_over_goes_and_what_is_being_seen_to_is_not_seen_to_twice() {
    assert_eq!(with_use(&unused_for(31), Use::Unused, true), Action::Expire);
    assert!(matches!(with_use(&unused_for(31), Use::Unused, false), Action::Report { .. }));
    assert!(matches!(with_use(&unused_for(29), Use::Unused, true), Action::Report { .. }));
    assert!(matches!(with_use(&unused_for(31), Use::Unknown, true), Action::Report { .. }));
}

#[test]
fn what_is_retained_or_being_deleted_does_not_go() {
    let mut retained = unused_for(40);
    retained.spec.retain = true;
    assert_eq!(written(with_use(&retained, Use::Unused, true)).0.expires_at, None);
    let mut deleted = unused_for(40);
    deleted.metadata.deletion_timestamp = Some(time(now()));
    assert_eq!(with_use(&deleted, Use::Unused, true), Action::Report { status: None, wake: None });
}

#[rstest]
#[case("1h", 60)]
#[case("0s", 0)]
#[case("soon", 30)]
fn an_image_can_have_a_delay_of_its_own(#[case] delay: &str, #[case] expected: i64) {
    let mut image = unused_for(-10);
    image.metadata.annotations = Some([(EXPIRY_DELAY_ANNOTATION.to_owned(), delay.to_owned())].into());
    let action = with_use(&image, Use::Unused, false);
    assert_eq!(written(action).0.expires_at, Some(time(minutes(expected))));
    assert_eq!(own_expiry_delay(&image).unwrap().is_ok(), delay != "soon");
}

#[test]
fn what_pods_asked_for_is_remembered() {
    let mut image = saying("True", "Cached");
    image.status.as_mut().unwrap().originals = vec!["b.example/web:1".to_owned()];
    let standing = cached(after(45));
    let said = |originals: &[&str]| {
        let originals = originals.iter().map(ToString::to_string).collect();
        let facts = Facts { originals, ..facts(&standing) };
        written(plan(&image, Now { instant: moment(), time: now() }, &facts)).0.originals
    };
    assert_eq!(said(&[]), ["b.example/web:1"]);
    assert_eq!(said(&["a.example/web:1", "b.example/web:1"]), ["a.example/web:1", "b.example/web:1"]);
    let many: Vec<_> = (0..40).map(|number| format!("{number}.example/web:1")).collect();
    assert_eq!(said(&many.iter().map(String::as_str).collect::<Vec<_>>()).len(), MOST_ORIGINALS);
}
