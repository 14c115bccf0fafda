use std::time::Duration;

use super::super::issue::{Issued, issue};
use super::*;

const LIFE: Duration = Duration::from_hours(90 * 24);

fn names() -> Vec<String> {
    vec!["webhook.ns.svc".to_owned(), "webhook.ns.svc.cluster.local".to_owned()]
}

fn after(days: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + days * 86_400).unwrap()
}

fn issued(day: i64) -> Issued {
    issue(&names(), LIFE, after(day)).unwrap()
}

fn read(issued: &Issued, authorities: &str, day: i64) -> Result<Held, String> {
    let Issued { certificate, key, .. } = issued;
    Held::read(certificate.as_bytes(), key.as_bytes(), authorities.as_bytes(), &names(), after(day))
}

#[test]
fn a_new_certificate_rests_for_two_thirds_of_its_life() {
    let new = issued(0);
    let held = read(&new, &new.authority, 0);
    let Step::Rest(until) = plan(&held, &[new.authority.as_bytes()], after(0)) else { panic!("{held:?}") };
    let expected = after(60);
    assert!((until.as_second() - expected.as_second()).abs() < 600, "{until}, {expected}");
    assert!(
        matches!(plan(&held, &[new.authority.as_bytes()], after(61)), Step::Issue { why, .. } if why.contains("two thirds"))
    );
}

#[test]
fn an_empty_secret_gets_one() {
    let why = "the Secret has no tls.crt".to_owned();
    assert_eq!(plan(&Err(why.clone()), &[b""], after(0)), Step::Issue { why, beside: String::new() });
}

#[test]
fn what_is_trusted_stays_so_beside_a_new_ca() {
    let (expired, one, other) = (issued(0).authority, issued(60).authority, issued(61).authority);
    let both = one.clone() + &other;
    let bundles = [both.as_bytes(), expired.as_bytes(), one.as_bytes(), b"", b"no PEM"];
    let step = plan(&Err(String::new()), &bundles, after(91));
    assert_eq!(step, Step::Issue { why: String::new(), beside: both });
}

#[test]
fn every_webhook_has_to_trust_the_ca() {
    let new = issued(0);
    let held = read(&new, &new.authority, 0);
    for trusted in [&[&b""[..]][..], &[new.authority.as_bytes(), b"another"]] {
        assert_eq!(plan(&held, trusted, after(0)), Step::Trust(new.authority.clone()));
    }
}

#[test]
fn the_ca_before_is_trusted_until_it_expires() {
    let (old, new) = (issued(0), issued(60));
    let both = new.authority.clone() + &old.authority;
    assert_eq!(read(&new, &both, 61).unwrap().authorities, both);
    assert_eq!(read(&new, &both, 91).unwrap().authorities, new.authority);
}

#[test]
fn what_cannot_be_served_is_replaced() {
    let (one, other) = (issued(0), issued(0));
    let because = |held: Result<Held, String>| held.unwrap_err();
    assert_eq!(because(read(&one, &one.authority, 90)), "the one before has expired");
    assert_eq!(because(read(&one, &other.authority, 0)), "ca.crt does not have the CA of tls.crt");
    let mixed = Issued { key: other.key, certificate: one.certificate.clone(), authority: one.authority.clone() };
    assert_eq!(because(read(&mixed, &one.authority, 0)), "tls.key is not the key of tls.crt");
    let elsewhere = ["other.ns.svc".to_owned()];
    let Issued { certificate, key, authority } = &one;
    let held = Held::read(certificate.as_bytes(), key.as_bytes(), authority.as_bytes(), &elsewhere, after(0));
    assert_eq!(because(held), "tls.crt is not for other.ns.svc");
    for nonsense in [&b""[..], b"\xff", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let held = Held::read(nonsense, key.as_bytes(), authority.as_bytes(), &names(), after(0));
        assert!(because(held).starts_with("tls.crt is no "));
    }
    let nonsense = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let held = Held::read(certificate.as_bytes(), key.as_bytes(), nonsense, &names(), after(0));
    assert!(because(held).starts_with("ca.crt is no X.509"));
}
