//! The plugin interface as wasmtime sees it; one world with all interfaces, of which a plugin exports some.

#![allow(missing_docs, clippy::all, clippy::pedantic)] // generated from wit/

wasmtime::component::bindgen!({
    path: "../wit",
    inline: "
        package waypost:host;
        world everything {
            import waypost:plugin/logging@0.1.0;
            export waypost:plugin/lifecycle@0.1.0;
            export waypost:plugin/grouping@0.1.0;
            export waypost:plugin/layout@0.1.0;
            export waypost:plugin/output@0.1.0;
            export waypost:plugin/live@0.1.0;
        }
    ",
    world: "waypost:host/everything",
    exports: { default: async },
    ownership: Borrowing { duplicate_if_necessary: true },
});
