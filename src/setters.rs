//! Setters of options, so that a chain of them says what differs from the default.

/// Writes for each field a method of its name that sets it.
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
