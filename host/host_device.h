// Marks the functions that kernels share with the host: one definition of a rule of arithmetic for both.
#pragma once

#ifdef __CUDACC__
#define PTQ_HOST_DEVICE __host__ __device__
#else
#define PTQ_HOST_DEVICE
#endif
