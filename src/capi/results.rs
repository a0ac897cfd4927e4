// The enum of results, made of the table of errors: given to the macro `output`. The crate compiles
// it, and whoever writes the header, for which macros are not expanded, prints it.

macro_rules! results {
    ($(
        $(#[doc = $doc:literal])+
        $number:literal $variant:ident $name:ident $atom:ident $when:ident [$($errno:ident)*]
            $sentence:literal;
    )+) => {
        output! {
            /// What a call returns. The numbers never change and are never reused.
            #[repr(i32)]
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum curve_tun_result {
                /// Success.
                CURVE_TUN_OK = 0,
                $($(#[doc = $doc])+ $name = $number,)+
            }
        }
    };
}
