# Sourced by tests that train: pictures and captions made of nothing but text.
le32() { # N: four bytes, lowest first
    for shift in 0 8 16 24; do
        printf "\\$(printf %03o $(($1 >> shift & 255)))"
    done
}
bmp() { # FILE WIDTH HEIGHT TEXT: rows of TEXT over and over as a 24-bit picture
    row=$((($2 * 3 + 3) / 4 * 4))
    {
        printf BM
        le32 $((54 + row * $3)); le32 0; le32 54
        le32 40; le32 "$2"; le32 "$3"; printf '\001\000\030\000'
        le32 0; le32 $((row * $3)); le32 0; le32 0; le32 0; le32 0
        yes "$4" | tr -d '\n' | head -c $((row * $3))
    } >"$1"
}
picture() { # STEM WIDTH HEIGHT TEXT CAPTION
    bmp "$1.bmp" "$2" "$3" "$4"
    echo "$5" >"$1.caption"
}
tiny_model() { # FILE: a model small enough to train in a test
    "$GRAPHRUN" init-weights unet clip vae_encoder --variant tiny --seed 1 --quiet \
        -o "$1" || exit 1
}
