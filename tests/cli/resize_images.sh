#!/bin/sh
# resize-images on pictures made here (BMP of one colour): names, sizes, what is copied, bad
# files, exit codes.
. "$(dirname "$0")/lib.sh"
cd "$tmp" || exit 1
g=$GRAPHRUN

byte() { printf "\\$(printf %03o "$1")"; }
bmp() { # bmp FILE W H (both below 256, W divisible by 4)
    {
        printf 'BM'
        printf '\0\0\0\0\0\0\0\0\066\0\0\0\050\0\0\0'
        byte "$2"; printf '\0\0\0'; byte "$3"; printf '\0\0\0\001\0\030\0'
        head -c 24 /dev/zero
        head -c $(($2 * $3 * 3)) /dev/zero | tr '\0' 'p'
    } >"$1"
}
size() { # size FILE: "W H" of a PNG
    od -An -t u1 -j 16 -N 8 "$1" | awk '{print $3 * 256 + $4, $7 * 256 + $8}'
}
is_size() { # is_size FILE "W H"
    [ "$(size "$1")" = "$2" ]
    check "$1 is '$(size "$1")', want '$2'" $?
}
files() { # files DIR WANT
    [ "$(ls "$1" | sort | tr '\n' ' ')" = "$2 " ]
    check "$1 holds '$(ls "$1" | sort | tr '\n' ' ')', want '$2 '" $?
}

mkdir src src/folder
bmp src/wide.bmp 80 40
bmp src/SMALL.BMP 8 8
echo caption >src/wide.txt
echo x >src/wide.tar.gz
echo note >src/notes.md

runs "$g" resize-images src new --max_resolution "40x40, 20x20" --save_as_png \
    --copy_associated_files
exits 0; silent out; says err "2 pictures resized"
says err "note: left out: folder/ is a folder"
files new "SMALL+20x20.png SMALL+40x40.png SMALL.BMP notes.md wide+20x20.gz wide+20x20.png wide+20x20.txt wide+40x40.gz wide+40x40.png wide+40x40.txt wide.bmp wide.tar.gz wide.txt"
is_size new/wide+40x40.png "56 28"
is_size new/wide+20x20.png "28 14"
is_size new/SMALL+20x20.png "8 8"
cmp -s src/wide.bmp new/wide.bmp
check "the original was changed" $?

# sd-scripts' set: no originals, lower-case extensions only
runs "$g" resize-images src old --max_resolution 40x40 --compat sd-scripts
exits 0
files old "SMALL.BMP notes.md wide+40x40.jpg wide.tar.gz wide.txt"
runs "$g" resize-images src div --max_resolution 40x40 --divisible_by 8 --save_as_png \
    --interpolation lanczos4
exits 0; is_size div/wide+40x40.png "56 24"

# bad files are named, the rest is done
echo "no picture" >src/bad.png
bmp src/twice.bmp 8 8
cp src/twice.bmp src/twice.png
runs "$g" resize-images src rest --max_resolution 40x40 --save_as_png
exits 1; says err "bad file: bad.png"; says err "would overwrite those of 'twice.bmp'"
says err "2 of the files could not be resized"
[ -e rest/wide+40x40.png ] && [ -e rest/twice+40x40.png ]
check "the rest was not done" $?
runs "$g" resize-images src tiny --max_resolution 4x4 --divisible_by 16
exits 1; says err "divisible by 16"

runs "$g" resize-images src src
exits 1; says err "the same folder"
runs "$g" resize-images gone new
exits 1; says err "cannot read 'gone'"
runs "$g" resize-images src new --max_resolution 512
exits 2; says err "--max_resolution: got '512', want WxH,WxH,..."
runs "$g" resize-images src new --interpolation cubik
exits 2
runs "$g" resize-images src
exits 2
finish
