/// Makes a WebAssembly component of a policy: `export!(filter: T)`, `export!(rewrite: T)`, or
/// `export!(filter + rewrite: T)` for one that does both.
///
/// `T` is a [`Filter`](crate::Filter) or a [`Rewrite`](crate::Rewrite), and its settings can be read
/// ([`Settings`](crate::Settings)). The crate is a library of type `cdylib`, and `rlib` for its tests. Once in a crate.
/// On other targets than WebAssembly it only checks that.
#[macro_export]
macro_rules! export {
    (filter: $policy:ty) => {
        $crate::export!(@ $policy, filtering);
    };
    (rewrite: $policy:ty) => {
        $crate::export!(@ $policy, rewriting);
    };
    (filter + rewrite: $policy:ty) => {
        $crate::export!(@ $policy, filtering, rewriting);
    };
    (@ $policy:ty, $($part:ident),+) => {
        const _: () = {
            // On every target, so that a native build finds the policy in use.
            const _: fn(&str) -> ::core::result::Result<$policy, ::std::string::String> = $crate::Settings::read;

            struct Component;

            impl $crate::glue::Component for Component {
                type Policy = $policy;

                fn slot() -> &'static ::std::sync::OnceLock<$policy> {
                    static POLICY: ::std::sync::OnceLock<$policy> = ::std::sync::OnceLock::new();
                    &POLICY
                }

                fn check(policy: &$policy) -> ::core::result::Result<(), ::std::string::String> {
                    $($crate::glue::$part::check(policy)?;)+
                    ::core::result::Result::Ok(())
                }
            }

            #[cfg(target_family = "wasm")]
            $crate::glue::checking::export!(Component with_types_in $crate::glue::checking);
            $(
                #[cfg(target_family = "wasm")]
                $crate::glue::$part::export!(Component with_types_in $crate::glue::$part);
            )+
        };
    };
}
