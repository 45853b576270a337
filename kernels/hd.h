/* HD marks what both compilers take: a formula of a CPU kernel and of its CUDA twin. */
#ifndef GRAPHRUN_HD_H
#define GRAPHRUN_HD_H
#ifdef __CUDACC__
#define HD __host__ __device__
#else
#define HD
#endif
#endif
