//! What primitives of one atomic word have in common that nobody owns.

/// Makes such a type placeable: it is ready wherever it lies, nobody holds it, and there is nothing to free.
///
/// The type is one atomic word, of which zero is the start state, and which names nobody.
macro_rules! impl_one_word_primitive {
    ($type:ty, $kind:literal) => {
        // SAFETY: one atomic word, as asserted below; it names nobody, and zero is its start state.
        #[diagnostic::do_not_recommend]
        unsafe impl crate::memory::ShmSafe for $type {
            const ZERO_IS_VALID: bool = true;
            const HAS_PRIMITIVES: bool = true;

            fn describe(layout: &mut crate::memory::Layout) {
                layout.primitive::<Self>(crate::memory::PrimitiveKind($kind));
            }

            fn visit(&self, visitor: &mut crate::memory::PrimitiveVisitor<'_>) {
                visitor.primitive(self);
            }
        }

        impl crate::memory::Primitive for $type {
            fn kind(&self) -> crate::memory::PrimitiveKind {
                crate::memory::PrimitiveKind($kind)
            }

            unsafe fn init(&self) -> Result<(), crate::Error> {
                Ok(())
            }

            fn is_held_by_this_process(&self) -> bool {
                false
            }

            unsafe fn reset(&self) {}
        }

        static_assertions::assert_eq_size!($type, u32);
        static_assertions::assert_impl_all!($type: Send, Sync, crate::ShmSafe);
    };
}
pub(super) use impl_one_word_primitive;
