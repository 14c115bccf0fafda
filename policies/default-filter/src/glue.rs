//! What wit-bindgen makes of the contract: the types, and on WebAssembly the exports. The one place with `unsafe`.
#![allow(unsafe_code, missing_docs, unreachable_pub, unused_qualifications, clippy::pedantic)]
// Natively nobody calls the host.
#![cfg_attr(not(target_family = "wasm"), allow(dead_code))]

#[cfg(target_family = "wasm")]
use crate::component::Component;

wit_bindgen::generate!({ path: "../../wit", world: "filtering", additional_derives: [PartialEq, Eq] });

#[cfg(target_family = "wasm")]
export!(Component with_types_in self);
