//! The command as a person and a script use it: the real program, in processes of its own.

#[cfg(test)]
#[cfg(target_os = "linux")]
mod bench;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod holdfast;
#[cfg(test)]
mod mail;
#[cfg(test)]
mod scripts;
