use std::sync::Arc;

use cache_registry_core::{ContainerFacts, PodFacts};
use wasmtime::component;
use wasmtime::{Store, UpdateDeadline};

use crate::allowance::Allowance;
use crate::bindings::types::{Image, Rewritten, Verdict};
use crate::bindings::{check, filter, rewrite};
use crate::clock::Running;
use crate::engine::Engine;
use crate::host::{Host, Pod};
use crate::load::{Exports, Policy};
use crate::log::Log;
use crate::memory::Memory;

/// A component brought to life in a store of its own, within the engine's limits. After a call that ends in an error
/// it answers no other.
pub(crate) struct Instance {
    store: Store<Host>,
    handle: component::Instance,
    filter: Option<filter::Guest>,
    rewrite: Option<rewrite::Guest>,
    _running: Running,
}

/// Bytes that a guest passes to the host in one call: references, reasons and lines of a log are far below.
const PASSED: usize = 64 << 10;

/// Handles that a guest holds at a time: of the pod, and of resources that it defines for itself, which take memory of
/// the host's.
const HANDLES: usize = 1000;

impl Instance {
    /// An instance that has what is left of `allowance` to start and to answer.
    pub(crate) async fn new(
        engine: &Engine,
        policy: &Policy,
        pod: Arc<PodFacts>,
        log: Arc<Log>,
        allowance: Allowance,
    ) -> wasmtime::Result<Self> {
        let running = engine.clock().run();
        let memory = Memory::limited_to(engine.limits().memory, allowance.pace());
        let host = Host::new(engine.clone(), memory, policy.identity.clone(), pod, log);
        let mut store = Store::new(engine.wasmtime(), host);
        store.limiter_async(|host| &mut host.memory);
        store.set_hostcall_fuel(PASSED);
        store.set_max_component_handles(HANDLES);
        store.epoch_deadline_callback(move |store| {
            let next = allowance.tick()?;
            if matches!(next, UpdateDeadline::Yield(_)) && allowance.pace().is_in_place() {
                store.data().engine().clock().quicken();
            }
            Ok(next)
        });
        store.set_epoch_deadline(1);
        let handle = policy.component.linked().instantiate_async(&mut store).await?;
        Ok(Self { store, handle, filter: None, rewrite: None, _running: running })
    }

    /// Compares its functions with the contract.
    pub(crate) fn compare(&mut self, exports: &Exports) -> wasmtime::Result<()> {
        self.filter = exports.filter.as_ref().map(|export| export.load(&mut self.store, &self.handle)).transpose()?;
        self.rewrite = exports.rewrite.as_ref().map(|export| export.load(&mut self.store, &self.handle)).transpose()?;
        if let Some(export) = &exports.check {
            export.load(&mut self.store, &self.handle)?;
        }
        Ok(())
    }

    /// It is asked again: ticks that passed in between were not in its time.
    pub(crate) fn resumes(&mut self) {
        self.store.set_epoch_deadline(1);
    }

    /// Bytes of memory that it has by now.
    pub(crate) fn memory(&self) -> usize {
        self.store.data().memory.used()
    }

    /// Asks whether the policy's settings are right.
    pub(crate) async fn check(&mut self, export: &check::GuestIndices) -> wasmtime::Result<Result<(), String>> {
        export.load(&mut self.store, &self.handle)?.call_check(&mut self.store).await
    }

    /// Asks whether a container's image is cached.
    pub(crate) async fn filter(
        &mut self,
        export: &filter::GuestIndices,
        container: &ContainerFacts,
    ) -> wasmtime::Result<Verdict> {
        let guest = match &mut self.filter {
            Some(guest) => guest,
            none => none.insert(export.load(&mut self.store, &self.handle)?),
        };
        let digest = container.image.digest().map(ToString::to_string);
        let image = Image::of(&container.image, digest.as_deref());
        guest.call_filter(&mut self.store, Pod::handle(), container.into(), image).await
    }

    /// Asks under which reference nodes pull a container's image.
    pub(crate) async fn rewrite(
        &mut self,
        export: &rewrite::GuestIndices,
        container: &ContainerFacts,
    ) -> wasmtime::Result<Result<Option<Rewritten>, String>> {
        let guest = match &mut self.rewrite {
            Some(guest) => guest,
            none => none.insert(export.load(&mut self.store, &self.handle)?),
        };
        let digest = container.image.digest().map(ToString::to_string);
        let image = Image::of(&container.image, digest.as_deref());
        guest.call_rewrite(&mut self.store, Pod::handle(), container.into(), image).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use cache_registry_core::{ContainerKind, PullPolicy};
    use cache_registry_guests as guests;

    use crate::engine::{HostFacts, Limits};
    use crate::pace::Pace;

    fn engine() -> Engine {
        Engine::new(&Limits::default(), HostFacts::default()).unwrap()
    }

    /// Asks the filter of a guest whose function has this body.
    async fn ask(engine: &Engine, body: &str, pace: &Arc<Pace>) -> wasmtime::Result<Verdict> {
        let policy = engine.load("guest", &engine.compile(&guests::filter(body)).unwrap(), "").unwrap();
        let container = ContainerFacts {
            name: "web".to_owned(),
            kind: ContainerKind::Regular,
            pull_policy: PullPolicy::Always,
            image: "a:1".parse().unwrap(),
        };
        let allowance = Allowance::of(engine.limits(), pace.clone());
        let log = Arc::new(Log::of(policy.identity.clone()));
        let mut instance = Instance::new(engine, &policy, Arc::default(), log, allowance).await?;
        instance.filter(policy.component.asked().filter.as_ref().unwrap(), &container).await
    }

    #[test]
    fn a_guest_that_is_not_quick_in_place_makes_the_clock_tick_fast() {
        let (engine, pace) = (engine(), Pace::in_place(&Limits::default()));
        assert!(!engine.clock().is_fast());
        let mut answer = pin!(ask(&engine, "(loop $forever (br $forever))", &pace));
        assert!(answer.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(engine.clock().is_fast());
    }

    /// It may stop at ticks as well. Then it goes on when it is polled.
    #[test]
    fn a_guest_that_takes_megabytes_goes_on_when_it_is_in_place_no_more() {
        let (engine, pace) = (engine(), Pace::in_place(&Limits::default()));
        let mut answer = pin!(ask(&engine, "(drop (memory.grow (i32.const 40)))", &pace));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..1000 {
            assert!(answer.as_mut().poll(&mut context).is_pending());
        }
        pace.slow_down();
        let answer = loop {
            if let Poll::Ready(answer) = answer.as_mut().poll(&mut context) {
                break answer;
            }
        };
        assert!(matches!(answer.unwrap(), Verdict::Pass));
    }
}
