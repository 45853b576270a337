#!/bin/sh
# What ptxas says of the CUDA kernels: no kernel spills registers, and only the interpreter
# of formulas, whose registers are an array, has a stack frame.
# tests/cuda_resources.sh FOLDER   with the *.fatbin.txt of the build
set -- "$1"/*.fatbin.txt
[ -f "$1" ] || { echo "cuda_resources: skipped, there is no nvcc"; exit 0; }
awk '
    /Compiling entry function/ { split($0, part, "'"'"'"); kernel = part[2]; n++ }
    /bytes stack frame/ {
        if ($5 + 0 || $9 + 0) { print kernel ": spills registers: " $0; bad++ }
        if ($1 + 0 && kernel != "gr_program") { print kernel ": " $0; bad++ }
    }
    END {
        print "cuda_resources: " n " kernels, " bad + 0 " failed"
        exit bad || !n
    }' "$@"
