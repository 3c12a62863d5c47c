//! Enums whose values have names in annotations, metrics, logs and JSON.

/// Defines an enum with a name for each value: `Value = "name"`.
macro_rules! named {
    (
        $(#[$meta:meta])*
        pub enum $Enum:ident {
            $($(#[$value_meta:meta])* $Value:ident = $name:literal,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Enum {
            $($(#[$value_meta])* $Value,)*
        }

        impl $Enum {
            /// All values.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$Value),*];

            /// Returns the name of the value.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$Value => $name,)*
                }
            }

            /// Returns the value with this name.
            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$Value),)*
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use named;
