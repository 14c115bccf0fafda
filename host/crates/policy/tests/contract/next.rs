//! A host whose contract has grown, 0.1.1, and a component that was built for 0.1.0.

use cache_registry_guests::encode_by;
use wasmtime::component::{Component, HasSelf, Linker, Resource};
use wasmtime::{Config, Engine, Store};

use crate::released_as;

wasmtime::component::bindgen!({
    inline: "
        package cache-registry:policy@0.1.1;

        interface types {
            enum container-kind { init, regular, ephemeral }
            enum pull-policy { always, if-not-present, never }
            record container { name: string, kind: container-kind, pull-policy: pull-policy }
            record image { registry: string, repository: string, tag: option<string>, digest: option<string> }
            variant verdict { pass, cache, ignore(string) }
            resource pod {
                namespace: func() -> string;
                /// New.
                priority: func() -> s32;
            }
        }

        interface host {
            settings: func() -> string;
            /// New.
            cluster: func() -> string;
        }

        interface filter {
            use types.{container, image, pod, verdict};
            filter: func(pod: borrow<pod>, container: container, image: image) -> verdict;
        }

        world filtering {
            import host;
            export filter;
        }",
    world: "filtering",
    with: { "cache-registry:policy/types.pod": crate::next::Pod },
});

use cache_registry::policy::{host, types};
use exports::cache_registry::policy::filter;

#[allow(unreachable_pub, reason = "the generated code exports it")]
pub struct Pod;

struct Next;

impl host::Host for Next {
    fn settings(&mut self) -> String {
        "the settings".to_owned()
    }

    fn cluster(&mut self) -> String {
        "new".to_owned()
    }
}

impl types::Host for Next {}

impl types::HostPod for Next {
    fn namespace(&mut self, _: Resource<Pod>) -> String {
        "shop".to_owned()
    }

    fn priority(&mut self, _: Resource<Pod>) -> i32 {
        0
    }

    fn drop(&mut self, _: Resource<Pod>) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// It ignores every image, for a reason that is the settings.
fn guest() -> Vec<u8> {
    let world = "package test:guest; world guest {
        import cache-registry:policy/host@0.1.0; import cache-registry:policy/types@0.1.0;
        export cache-registry:policy/filter@0.1.0;
    }";
    let module = format!(
        r#"(module
             (import "cache-registry:policy/types@0.1.0" "[resource-drop]pod" (func $drop_pod (param i32)))
             (import "cache-registry:policy/host@0.1.0" "settings" (func $settings (param i32)))
             (memory (export "memory") 1)
             (global $heap (mut i32) (i32.const 4096))
             (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
               (global.get $heap) (global.set $heap (i32.and (i32.add (global.get $heap) (i32.add (local.get $size) (i32.const 7))) (i32.const -8))))
             (data (i32.const 64) "\02")
             (func (export "cache-registry:policy/filter@0.1.0#filter") (param $pod i32) (param{}) (result i32)
               (call $settings (i32.const 68)) (call $drop_pod (local.get $pod)) (i32.const 64)))"#,
        " i32".repeat(14)
    );
    encode_by(&released_as("0.1.0"), world, &module)
}

/// Names of interfaces are matched by what is compatible, in both directions: that is wasmtime's, and all depends on it.
#[test]
fn a_host_that_has_grown_takes_what_was_built_before() {
    let engine = Engine::new(&Config::new()).unwrap();
    let mut linker = Linker::new(&engine);
    Filtering::add_to_linker::<_, HasSelf<_>>(&mut linker, |next| next).unwrap();
    let component = linker.instantiate_pre(&Component::new(&engine, guest()).unwrap()).unwrap();
    let export = filter::GuestIndices::new(&component).unwrap();
    let mut store = Store::new(&engine, Next);
    let instance = component.instantiate(&mut store).unwrap();
    let container = types::Container {
        name: "web".to_owned(),
        kind: types::ContainerKind::Init,
        pull_policy: types::PullPolicy::Never,
    };
    let image = types::Image { registry: "r".to_owned(), repository: "a".to_owned(), tag: None, digest: None };
    let filter = export.load(&mut store, &instance).unwrap();
    let verdict = filter.call_filter(&mut store, Resource::new_borrow(0), &container, &image).unwrap();
    assert!(matches!(&verdict, types::Verdict::Ignore(reason) if reason == "the settings"), "{verdict:?}");
}
