use std::collections::HashSet;
use std::sync::Mutex;

use super::*;
use crate::mock_api::MockApi;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::Method;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

const PASSWORD: &str = "hush-hush";

fn source() -> Reference {
    "reg.example/team/app:1".parse().unwrap()
}

fn these(names: &[&str]) -> Vec<PullSecret> {
    let secret = |name: &&str| PullSecret { namespace: "ns".into(), name: (*name).into() };
    names.iter().map(secret).collect()
}

fn of_type(type_: &str, key: &str, content: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": "ns"},
        "type": type_, "data": {key: BASE64_STANDARD.encode(content)},
    })
}

/// As `kubectl create secret docker-registry` makes it.
fn docker(registry: &str, user: &str) -> Value {
    let config = json!({"auths": {registry: {"username": user, "password": PASSWORD}}});
    of_type("kubernetes.io/dockerconfigjson", ".dockerconfigjson", &config.to_string())
}

fn user(name: &str) -> Credentials {
    Credentials::password(name, PASSWORD).unwrap()
}

fn failure(reason: Reason) -> Failure {
    Failure { reason, message: "It broke.".to_owned(), retry_after: None }
}

/// In whose names a call was made, and what came of it: `Ok` for `good` alone, this reason for everybody else.
async fn tried(
    secrets: &[(&str, Result<Value, u16>)],
    good: Option<&str>,
    otherwise: impl Fn(Option<&Credentials>) -> Reason,
) -> (Vec<Option<Credentials>>, Result<(), Failure>) {
    let (client, mut api) = MockApi::new();
    let names: Vec<_> = secrets.iter().map(|(name, _)| *name).collect();
    let serving = async {
        for (name, answer) in secrets {
            let asked = api.expect(Method::GET, &format!("/api/v1/namespaces/ns/secrets/{name}")).await;
            match answer {
                Ok(secret) => asked.answer(secret),
                Err(code) => asked.refuse(*code, if *code == 404 { "NotFound" } else { "Refused" }),
            }
        }
        std::future::pending::<()>().await;
    };
    let calls = Mutex::new(Vec::new());
    let reader = PullSecrets::new(client, true);
    let listed = these(&names);
    let source = source();
    let trying = reader.each(&source, &listed, |credentials| {
        let is_good = credentials == good.map(user);
        let outcome = if is_good { Ok(()) } else { Err(failure(otherwise(credentials.as_ref()))) };
        calls.lock().unwrap().push(credentials);
        std::future::ready(outcome)
    });
    let outcome = tokio::select! {
        outcome = trying => outcome,
        () = serving => unreachable!(),
    };
    (calls.into_inner().unwrap(), outcome)
}

#[tokio::test]
async fn each_credential_that_fits_is_tried_until_one_is_let_in() {
    let secrets = [
        ("a", Ok(docker("reg.example", "wrong"))),
        ("b", Ok(docker("other.example", "good"))),
        ("c", Ok(docker("reg.example/team", "wrong"))),
        ("d", Ok(docker("*.example", "good"))),
    ];
    let (calls, outcome) = tried(&secrets, Some("good"), |_| Reason::Unauthorized).await;
    outcome.unwrap();
    assert_eq!(calls, [Some(user("wrong")), Some(user("good"))]);
}

#[tokio::test]
async fn nobody_is_tried_last_and_wrong_secrets_do_no_harm() {
    let secrets = [
        ("a", Ok(docker("reg.example", "wrong"))),
        ("b", Err(404)),
        ("c", Ok(of_type("kubernetes.io/dockercfg", ".dockercfg", r#"{"reg.example":{"auth":"b2xkOmh1c2g="}}"#))),
    ];
    let (calls, outcome) = tried(&secrets, None, |_| Reason::Unauthorized).await;
    outcome.unwrap();
    assert_eq!(calls, [Some(user("wrong")), Credentials::password("old", "hush").ok(), None]);
}

#[tokio::test]
async fn a_failure_that_is_no_refusal_ends_it() {
    let secrets = [("a", Ok(docker("reg.example", "one")))];
    let (calls, outcome) = tried(&secrets, None, |_| Reason::UpstreamUnreachable).await;
    assert_eq!((calls.len(), outcome.unwrap_err().reason), (1, Reason::UpstreamUnreachable));
}

#[tokio::test]
async fn a_limit_is_one_accounts_and_counts_where_nobody_else_is_let_in() {
    let secrets = [("a", Ok(docker("reg.example", "busy"))), ("b", Ok(docker("reg.example", "right")))];
    let reason = |credentials: Option<&Credentials>| {
        if credentials == Some(&user("busy")) { Reason::RateLimited } else { Reason::NotFound }
    };
    let (calls, outcome) = tried(&secrets, Some("right"), reason).await;
    outcome.unwrap();
    assert_eq!(calls.len(), 2);
    let (_, outcome) = tried(&secrets, Some("nobody"), reason).await;
    assert_eq!(outcome.unwrap_err().reason, Reason::RateLimited);
}

#[tokio::test]
async fn who_was_let_in_and_found_nothing_knows_best() {
    let secrets = [("a", Ok(docker("reg.example", "wrong"))), ("b", Ok(docker("reg.example", "right")))];
    let reason = |credentials: Option<&Credentials>| {
        if credentials == Some(&user("right")) { Reason::NotFound } else { Reason::Unauthorized }
    };
    let (calls, outcome) = tried(&secrets, Some("nobody"), reason).await;
    assert_eq!((calls.len(), outcome.unwrap_err().reason), (3, Reason::NotFound));
}

#[rstest]
#[case::refused(
    Ok(docker("reg.example", "wrong")),
    "Tried with the pull secrets of those who use it, ns/a, and without"
)]
#[case::of_others(
    Ok(docker("other.example", "one")),
    "The pull secrets of those who use it, ns/a, hold nothing for this"
)]
#[case::not_there(Err(404), "Pull secrets of no use: ns/a (it does not exist).")]
#[case::forbidden(Err(403), "ns/a (this ServiceAccount may not read it)")]
#[case::broken(Err(500), "ns/a (the API server answers 500)")]
#[case::another_type(Ok(of_type("Opaque", ".dockerconfigjson", "hush-hush")), "ns/a (it is of another type than")]
#[case::no_key(Ok(of_type("kubernetes.io/dockerconfigjson", "x", "hush-hush")), "ns/a (it has no .dockerconfigjson)")]
#[case::no_json(
    Ok(of_type("kubernetes.io/dockerconfigjson", ".dockerconfigjson", "hush-hush")),
    "ns/a (line 1, column 1: not JSON)"
)]
#[case::no_secret(Ok(json!({"data": {"x": ["hush-hush"]}})), "ns/a (the API server's answer can't be read)")]
#[tokio::test]
async fn what_was_tried_is_told_and_nothing_of_what_is_in_it(#[case] secret: Result<Value, u16>, #[case] words: &str) {
    let (_, outcome) = tried(&[("a", secret)], Some("good"), |_| Reason::Unauthorized).await;
    let failure = outcome.unwrap_err();
    assert_eq!(failure.reason, Reason::Unauthorized);
    assert!(failure.message.starts_with("It broke. ") && failure.message.contains(words), "{}", failure.message);
    for secret in [PASSWORD, "hush", &BASE64_STANDARD.encode(PASSWORD)] {
        assert!(!failure.message.contains(secret), "{}", failure.message);
    }
}

/// Where something was shown and refused, or nobody says that it is a matter of credentials, it would be wrong advice.
#[rstest]
#[case::none(&[], Reason::Unauthorized, true)]
#[case::of_others(&[("a", Ok(docker("other.example", "one")))], Reason::Unauthorized, true)]
#[case::not_there(&[("a", Err(404))], Reason::Unauthorized, true)]
#[case::refused(&[("a", Ok(docker("reg.example", "wrong")))], Reason::Unauthorized, false)]
#[case::not_found(&[], Reason::NotFound, false)]
#[tokio::test]
async fn who_has_shown_nothing_is_told_what_to_do(
    #[case] secrets: &[(&str, Result<Value, u16>)],
    #[case] reason: Reason,
    #[case] told: bool,
) {
    let (_, outcome) = tried(secrets, Some("good"), |_| reason).await;
    let message = outcome.unwrap_err().message;
    assert_eq!(message.contains("name it in controllers.webhook.nodeRegistries"), told, "{message}");
}

#[tokio::test]
async fn where_nothing_is_to_be_read_nothing_is() {
    let (client, _api) = MockApi::new();
    for (secrets, words) in
        [(these(&["a"]), "controllers.pullSecrets.enabled is false"), (these(&[]), "names a pull secret")]
    {
        let reader = PullSecrets::new(client.clone(), false);
        let call = |credentials: Option<Credentials>| {
            assert_eq!(credentials, None);
            std::future::ready(Err::<(), _>(failure(Reason::Unauthorized)))
        };
        let message = reader.each(&source(), &secrets, call).await.unwrap_err().message;
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_answer_is_waited_for_once() {
    let (client, _api) = MockApi::new();
    let secrets = these(&["a", "b", "c"]);
    let began = tokio::time::Instant::now();
    let reader = PullSecrets::new(client, true);
    let call = |_| std::future::ready(Err::<(), _>(failure(Reason::Unauthorized)));
    let message = reader.each(&source(), &secrets, call).await.unwrap_err().message;
    assert!(message.contains("ns/a (the API server does not answer)"), "{message}");
    assert!(began.elapsed().as_secs() <= 10, "{:?}", began.elapsed());
}

proptest! {
    #[test]
    fn a_bounded_number_is_read_and_each_has_its_turn(count in 0_usize..200) {
        let names: Vec<_> = (0..count).map(|number| format!("s{number}")).collect();
        let secrets = these(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let mut seen = HashSet::new();
        for random in 0..count.max(1) {
            let turn: Vec<_> = in_turn(&secrets, random).collect();
            prop_assert_eq!(turn.len(), count.min(MOST_READ));
            prop_assert_eq!(turn.iter().collect::<HashSet<_>>().len(), turn.len());
            seen.extend(turn.into_iter().cloned());
        }
        prop_assert_eq!(seen.len(), count);
    }
}
