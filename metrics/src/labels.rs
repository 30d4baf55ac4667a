//! Closed sets of label values as enums, so that a call site cannot invent a series.

/// Declares a fieldless enum whose variants are the values of a label: `ALL` in order of declaration, so that
/// `self.index()` is a position in an array of handles, and `as_str` for the label itself.
macro_rules! label_values {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* #[doc = concat!("\n\nLabel value `", $value, "`.")] $variant,)+
        }

        impl $name {
            /// Every value, in order of declaration.
            pub const ALL: &[$name] = &[$($name::$variant,)+];

            /// The value as it stands in the label.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $value,)+ }
            }

            pub(crate) const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

pub(crate) use label_values;
