# Writes OUT (built.h) with the commit that is being built; runs at every build, and
# touches the file only when the commit changed.
cmake_minimum_required(VERSION 3.25)
execute_process(
    COMMAND git describe --always --dirty --abbrev=12 --exclude=*
    WORKING_DIRECTORY "${SOURCE}" OUTPUT_VARIABLE commit ERROR_QUIET
    OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE rc)
if(NOT rc EQUAL 0)
    set(commit "unknown")
endif()
file(CONFIGURE OUTPUT "${OUT}" @ONLY CONTENT
    "#define GRAPHRUN_VERSION \"@VERSION@\"\n#define GRAPHRUN_COMMIT \"@commit@\"\n")
