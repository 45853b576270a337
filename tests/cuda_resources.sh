#!/bin/sh
# What ptxas says of the CUDA kernels: no kernel spills registers, and only these have a
# stack frame: interpreters of formulas, whose registers are an array (and whose sines
# reduce large angles in local memory), and what else needs sines.
# tests/cuda_resources.sh FOLDER   with the *.fatbin.txt of the build
set -- "$1"/*.fatbin.txt
[ -f "$1" ] || { echo "cuda_resources: skipped, there is no nvcc"; exit 0; }
awk '
    /Compiling entry function/ { split($0, part, "'"'"'"); kernel = part[2]; n++ }
    /bytes stack frame/ {
        if ($5 + 0 || $9 + 0) { print kernel ": spills registers: " $0; bad++ }
        if ($1 + 0 && kernel !~ /^gr_(program|program_wide|updates?|updates?_numbers|norm.*_f|random|timestep)$/) { print kernel ": " $0; bad++ }
    }
    END {
        print "cuda_resources: " n " kernels, " bad + 0 " failed"
        exit bad || !n
    }' "$@"
