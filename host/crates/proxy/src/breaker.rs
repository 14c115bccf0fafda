use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Remembers that the cache does not answer, so that a pull of six requests does not wait six times.
///
/// ```text
///            no answer                     time is over
/// Closed ───────────────▶ Open (2 s … 30 s) ───────────▶ HalfOpen: one request probes, the others go upstream
///    ▲                     ▲                                │
///    │                     └────────── no answer: twice as long
///    └──────────────────────────────── any answer ◀─────────┘
/// ```
///
/// An answer is any HTTP response, an error too: what costs time is silence.
#[derive(Debug)]
pub(crate) struct Breaker {
    state: Mutex<State>,
}

/// How long the breaker stays open the first time.
const SHORTEST: Duration = Duration::from_secs(2);
/// How long it stays open at most: what a registry that came back waits to be used again.
const LONGEST: Duration = Duration::from_secs(30);

/// The state of the breaker, for its metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// Requests go to the cache.
    Closed,
    /// One request finds out whether the cache is back.
    HalfOpen,
    /// Requests go upstream.
    Open,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed,
    Open { until: Instant, pause: Duration, probing: bool },
}

/// The right to ask the cache. It is to be told what came of it; dropped without, it was as if nothing was asked.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Breaker {
    /// A closed one.
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State::Closed) }
    }

    /// The right to ask the cache now; `None` when it is known to be sick.
    pub(crate) fn permit(&self, now: Instant) -> Option<Permit<'_>> {
        match &mut *self.lock() {
            State::Closed => Some(Permit { breaker: self, probe: false }),
            State::Open { until, probing, .. } if *until <= now && !*probing => {
                *probing = true;
                Some(Permit { breaker: self, probe: true })
            }
            State::Open { .. } => None,
        }
    }

    /// The right to ask the cache however sick it is, for who has nobody else to ask.
    pub(crate) fn permit_anyway(&self) -> Permit<'_> {
        Permit { breaker: self, probe: false }
    }

    /// The cache fell silent within a body.
    pub(crate) fn fell_silent(&self, now: Instant) {
        self.permit_anyway().silent(now);
    }

    /// For the metric.
    pub(crate) fn position(&self) -> Position {
        match *self.lock() {
            State::Closed => Position::Closed,
            State::Open { probing: true, .. } => Position::HalfOpen,
            State::Open { .. } => Position::Open,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held, and a state is right at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// The cache answered.
    pub(crate) fn answered(self) {
        *self.breaker.lock() = State::Closed;
    }

    /// The cache did not answer within its time.
    pub(crate) fn silent(self, now: Instant) {
        let mut state = self.breaker.lock();
        *state = match *state {
            State::Closed => State::Open { until: now + SHORTEST, pause: SHORTEST, probing: false },
            // Requests that were under way when it opened say nothing new.
            State::Open { until, pause, probing } if !self.probe => State::Open { until, pause, probing },
            State::Open { pause, .. } => {
                let pause = (pause * 2).min(LONGEST);
                State::Open { until: now + pause, pause, probing: false }
            }
        };
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.probe
            && let State::Open { probing, .. } = &mut *self.breaker.lock()
        {
            *probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn opened(now: Instant) -> Breaker {
        let breaker = Breaker::new();
        breaker.permit(now).unwrap().silent(now);
        breaker
    }

    #[test]
    fn one_silence_opens_it_and_an_answer_closes_it() {
        let now = Instant::now();
        let breaker = opened(now);
        assert_eq!(breaker.position(), Position::Open);
        assert!(breaker.permit(now).is_none());
        assert!(breaker.permit(after(now, 1)).is_none());
        breaker.permit(after(now, 2)).unwrap().answered();
        assert_eq!(breaker.position(), Position::Closed);
        assert!(breaker.permit(after(now, 2)).is_some());
    }

    #[test]
    fn one_request_at_a_time_probes() {
        let now = Instant::now();
        let breaker = opened(now);
        let probe = breaker.permit(after(now, 2)).unwrap();
        assert_eq!(breaker.position(), Position::HalfOpen);
        assert!(breaker.permit(after(now, 2)).is_none());
        drop(probe);
        // A probe whose client went away leaves the place to the next.
        assert!(breaker.permit(after(now, 2)).is_some());
    }

    #[test]
    fn the_pause_doubles_up_to_half_a_minute() {
        let mut now = Instant::now();
        let breaker = opened(now);
        for pause in [2, 4, 8, 16, 30, 30] {
            assert!(breaker.permit(after(now, pause - 1)).is_none(), "before {pause} s");
            now = after(now, pause);
            breaker.permit(now).unwrap().silent(now);
        }
    }

    #[test]
    fn requests_under_way_when_it_opened_do_not_lengthen_the_pause() {
        let now = Instant::now();
        let breaker = Breaker::new();
        let six: Vec<_> = (0..6).map(|_| breaker.permit(now).unwrap()).collect();
        for permit in six {
            permit.silent(now);
        }
        assert!(breaker.permit(after(now, 2)).is_some());
    }

    #[test]
    fn whoever_asks_anyway_and_gets_an_answer_closes_it() {
        let now = Instant::now();
        let breaker = opened(now);
        breaker.permit_anyway().answered();
        assert_eq!(breaker.position(), Position::Closed);
    }
}
