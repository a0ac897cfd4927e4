// The enum of results, made from the table of errors and passed to the macro `output`. The crate
// compiles it; the generator of the header, which does not expand macros, prints it.

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
