//! Components that mean harm, one way each. None needs a toolchain that would let it.

use cache_registry_guests::{Answer, component, encode, filter};

/// Filters that do harm when they are asked, with how that ends.
pub(crate) fn when_asked() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let trapped = "trap";
    vec![
        ("loop", filter("(loop $forever (br $forever))"), "time"),
        ("allocate", filter("(loop $more (drop (memory.grow (i32.const 1))) (br $more))"), "memory"),
        ("allocate and touch", filter(TOUCH), "memory"),
        ("recurse", recursing(), trapped),
        ("grow a table", growing_a_table(), "time"),
        ("out of bounds", filter("(i32.store (i32.const 0x7ffffff0) (i32.const 1))"), trapped),
        (
            "flood the log",
            filter("(loop $more (call $log (i32.const 1) (i32.const 0) (i32.const 60000)) (br $more))"),
            "time",
        ),
        ("answer with a gigabyte", filter(GIGABYTE), trapped),
        ("answer with all it has", filter(MEGABYTES), "data"),
        ("say a gigabyte", filter("(call $log (i32.const 1) (i32.const 0) (i32.const 0x40000000))"), trapped),
        ("read the pod for ever", filter(READ), "time"),
        ("hoard resources", hoarding(), trapped),
    ]
}

/// Components that do harm when they are loaded, with the kind of the error.
pub(crate) fn when_loaded() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    vec![
        ("trap in check", checking("unreachable"), "trial"),
        ("loop in check", checking("(loop $forever (br $forever))"), "trial"),
        ("allocate in check", checking("(loop $more (drop (memory.grow (i32.const 1))) (br $more))"), "trial"),
        ("start for ever", starting("(loop $forever (br $forever))"), "trial"),
        ("start with everything", large(), "memory"),
        ("import ten thousand things", importing(10_000), "too-large"),
        ("import ten thousand functions", importing_functions(10_000), "contract"),
        ("tangle variables and loops", tangled(1000), "too-large"),
        ("nest components", nested(20_000), "too-large"),
        ("double components", doubled(40), "too-large"),
        ("nest blocks", nested_blocks(2000), "contract"),
        ("end too early", cut(), "damaged"),
    ]
}

/// Compiles, which takes a good while.
pub(crate) fn huge() -> Vec<u8> {
    let steps: Vec<_> = (0..300)
        .map(|i| {
            let (to, from, other) = (i % 30, i * 7 % 30, (i * 13 + 5) % 30);
            format!(
                "(local.set {to} (i32.add (i32.mul (local.get {from}) (local.get {other})) (i32.load (local.get {from}))))"
            )
        })
        .collect();
    let function = format!("(func (local {}) {})", "i32 ".repeat(30), steps.concat());
    component(&["filter"], &format!("{} {}", function.repeat(300), asked("")))
}

const TOUCH: &str = "(loop $more
    (memory.fill (i32.mul (memory.size) (i32.const 65536)) (i32.const 1) (i32.const 0))
    (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1))
      (then (memory.fill (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 65536)) (i32.const 1) (i32.const 65536))))
    (br $more))";

/// `ignore` with a text that begins in the guest's memory, and does not end there.
const GIGABYTE: &str = "(i32.store8 (i32.const 64) (i32.const 2)) (i32.store (i32.const 68) (i32.const 0))
    (i32.store (i32.const 72) (i32.const 0x40000000))";

/// The same with six megabytes, which it has.
const MEGABYTES: &str = "(drop (memory.grow (i32.const 100)))
    (i32.store8 (i32.const 64) (i32.const 2)) (i32.store (i32.const 68) (i32.const 65536))
    (i32.store (i32.const 72) (i32.const 0x600000))";

const READ: &str =
    "(loop $more (global.set $heap (i32.const 4096)) (call $json (local.get $pod) (i32.const 256)) (br $more))";

fn asked(body: &str) -> String {
    format!(
        "(func (export \"cache-registry:policy/filter@0.1.0#filter\") (param $pod i32) (param{}) (result i32)
           {body} (call $drop_pod (local.get $pod)) (i32.const 64))",
        " i32".repeat(14)
    )
}

fn recursing() -> Vec<u8> {
    component(&["filter"], &format!("(func $deeper (call $deeper) (call $deeper)) {}", asked("(call $deeper)")))
}

fn growing_a_table() -> Vec<u8> {
    let body = "(loop $more (drop (table.grow (ref.null func) (i32.const 1000))) (br $more))";
    component(&["filter"], &format!("(table 1 funcref) {}", asked(body)))
}

/// Makes resources of its own, for which the host keeps the handles.
fn hoarding() -> Vec<u8> {
    let world = "package test:guest;
        interface things { resource thing { constructor(); } }
        world guest { import cache-registry:policy/types@0.1.0; export things; export cache-registry:policy/filter@0.1.0; }";
    let module = format!(
        r#"(module
             (import "cache-registry:policy/types@0.1.0" "[resource-drop]pod" (func $drop_pod (param i32)))
             (import "[export]test:guest/things" "[resource-new]thing" (func $new (param i32) (result i32)))
             (memory (export "memory") 1)
             (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
             (func (export "test:guest/things#[constructor]thing") (result i32) (call $new (i32.const 0)))
             {})"#,
        asked("(loop $more (drop (call $new (i32.const 0))) (br $more))")
    );
    encode(world, &module)
}

fn checking(body: &str) -> Vec<u8> {
    let check = format!(
        r#"{} (func (export "cache-registry:policy/check@0.1.0#check") (result i32) {body} (i32.const 64))"#,
        Answer::Pass.data()
    );
    component(&["check", "filter"], &format!("{check} {}", asked("")))
}

fn starting(body: &str) -> Vec<u8> {
    component(&["filter"], &format!("(func $start {body}) (start $start) {}", asked("")))
}

/// The exports of a filter, without one.
const FILTER: &str = r#"(instance $none) (export "cache-registry:policy/filter@0.1.0" (instance $none))"#;

fn text(fields: &str) -> Vec<u8> {
    wat::parse_str(format!("(component {fields} {FILTER})")).unwrap()
}

fn large() -> Vec<u8> {
    text("(core module (memory 65536))")
}

fn importing(count: usize) -> Vec<u8> {
    let imports: Vec<_> = (0..count).map(|i| format!("(import \"a:b/c{i}\" (func))")).collect();
    text(&imports.concat())
}

fn importing_functions(count: usize) -> Vec<u8> {
    let functions: Vec<_> = (0..count).map(|i| format!("(export \"f{i}\" (func))")).collect();
    text(&format!("(import \"cache-registry:policy/host@0.1.0\" (instance {}))", functions.concat()))
}

/// Variables in loops within loops, which all depend on each other.
fn tangled(count: usize) -> Vec<u8> {
    let set: Vec<_> = (0..count).map(|i| format!("(local.set {i} (i32.add (local.get {i}) (local.get 0)))")).collect();
    let (begin, end) = ("(loop ".repeat(count), "(br_if 0 (local.get 0)))".repeat(count));
    text(&format!("(core module (func (local {}) {begin} {} {end}))", "i32 ".repeat(count), set.concat()))
}

/// Components within components, deeper than a text may have them.
fn nested(depth: usize) -> Vec<u8> {
    let filter = text("");
    let (header, filter) = filter.split_at(8);
    let mut component = header.to_vec();
    for _ in 0..depth {
        let inner = component;
        component = header.to_vec();
        // A section of the kind 4, with its length.
        component.push(4);
        let mut length = inner.len();
        while length >= 0x80 {
            component.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        component.push(u8::try_from(length).unwrap());
        component.extend(inner);
    }
    [component.as_slice(), filter].concat()
}

/// Two of a component that has two of a component, and so on.
fn doubled(times: usize) -> Vec<u8> {
    let mut component = "(core module $m) (core instance (instantiate $m))".to_owned();
    for _ in 0..times / 2 {
        component = format!("(component $c {component}) (instance (instantiate $c)) (instance (instantiate $c))");
    }
    text(&component)
}

fn nested_blocks(depth: usize) -> Vec<u8> {
    text(&format!("(core module (func {}{}))", "block ".repeat(depth), "end ".repeat(depth)))
}

fn cut() -> Vec<u8> {
    let mut whole = filter("");
    whole.truncate(whole.len() / 2);
    whole
}
