//! The authority and its command as others use them: verified by the library the daemons use, and by
//! OpenSSL where it is installed.

#[cfg(test)]
mod authority;
#[cfg(test)]
mod command;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod openssl;
#[cfg(test)]
mod renewal;
#[cfg(test)]
mod request;
#[cfg(test)]
mod revocation;
#[cfg(test)]
mod summary;
#[cfg(test)]
mod verifier;
