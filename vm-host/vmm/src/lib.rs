//! KVM: the probe that tells whether stock kernels run here.
