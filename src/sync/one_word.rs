//! What primitives of one atomic word have in common that nobody owns.

/// Makes such a type placeable: it is ready wherever it lies, nobody holds it, and there is nothing to free.
///
/// The type is one atomic word, of which zero is the start state, and which names nobody.
macro_rules! one_word_primitive {
    ($type:ty, $kind:literal) => {
        // SAFETY: one atomic word, as asserted below; it names nobody, and zero is its start state.
        #[diagnostic::do_not_recommend]
        unsafe impl crate::memory::ShmSafe for $type {
            const ZERO_IS_VALID: bool = true;
            const HAS_PRIMITIVES: bool = true;

            fn describe(layout: &mut crate::memory::Layout) {
                layout.primitive::<Self>(crate::memory::Kind($kind));
            }

            fn walk(&self, walk: &mut crate::memory::Walk<'_>) {
                walk.primitive(self);
            }
        }

        impl crate::memory::Primitive for $type {
            fn kind(&self) -> crate::memory::Kind {
                crate::memory::Kind($kind)
            }

            unsafe fn arm(&self) -> Result<(), crate::Error> {
                Ok(())
            }

            fn is_held_here(&self) -> bool {
                false
            }

            unsafe fn reset(&self) {}
        }

        static_assertions::assert_eq_size!($type, u32);
        static_assertions::assert_impl_all!($type: Send, Sync, crate::ShmSafe);
    };
}
pub(super) use one_word_primitive;
