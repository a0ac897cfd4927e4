//! Setters of options. A chain of them says only what differs from the default.

/// Generates, for each field, a method of the same name that sets it.
macro_rules! setters {
    ($options:ident { $($field:ident: $kind:ty),+ $(,)? }) => {
        impl $options {
            $(
                #[doc = concat!("Sets [`", stringify!($options), "::", stringify!($field), "`].")]
                #[must_use]
                pub fn $field(mut self, $field: $kind) -> $options {
                    self.$field = $field;
                    self
                }
            )+
        }
    };
}

pub(crate) use setters;
