#!/usr/bin/env bash
# Every option of sd-scripts' train_network that is worth having (marks A and B of
# tests/golden/options.tsv) does something here, and what it does shows in two short runs, one
# with it and one without; the others (C) are told to have no effect, or are refused with what
# to use instead. An option of that list that no line below tries is a failure.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../pictures.sh"
export SOURCE_DATE_EPOCH=1700000000
list=$PWD/tests/golden/options.tsv
golden=$PWD/tests/golden

cd "$tmp" || exit 1
for seed in 1 2; do
    "$GRAPHRUN" init-weights unet clip vae_encoder vae_decoder --variant tiny --seed $seed \
        --quiet -o model$seed.safetensors || exit 1
done
mkdir -p img/2_cat img/1_dog reg/1_animal face/1_face clear/1_x
picture img/2_cat/a 48 32 'a~ 0' 'a (grey:1.5) cat; asleep, on a {red|blue} mat %%% at home, x;;y, z'
picture img/2_cat/b 24 24 'zzz(((' 'a cat, running'
echo 'another caption' >img/2_cat/a.txt
picture img/1_dog/c 32 64 '~~~!!!PPP' 'a dog'
picture reg/1_animal/r 32 32 'r9' 'an animal'
picture face/1_face/p_20_30_16_16 64 80 'f~ 0' 'a face'
cp "$golden/pictures/rgba.png" clear/1_x/x.png
echo 'a clear thing' >clear/1_x/x.caption
echo '{"a": {"caption": "told by a file"}, "b": {"tags": "one, two"}}' >meta.json
printf '[[datasets]]\nresolution = 32\n[[datasets.subsets]]\nimage_dir = "img/1_dog"\n' >set.toml
printf 'network_dim = 3\n' >config.toml
printf 'a cat --w 64 --h 64 --s 2 --d 5\n' >prompts.txt

keep= # set: what is on disk stays there
train() { # options…, into to/; without data options of their own: a folder of one picture
    rm -rf to log ${keep:-only/1_dog/.graphrun-latents}
    local data=(--train_data_dir only --caption_extension .caption) model=model1.safetensors
    [[ " $* " = *" --pretrained_model_name_or_path "* ]] && model=
    [[ " $* " = *" --train_data_dir "* || " $* " = *" --dataset_config "* ||
        " $* " = *" nodata "* ]] && data=()
    runs "$GRAPHRUN" train ${model:+--pretrained_model_name_or_path $model} --resolution 32 \
        --network_dim 2 --seed 1 --max_train_steps 1 --output_dir to --threads 1 --verbose \
        "${data[@]}" "${@/#nodata/--quiet}"
    hash=$(head -c 60000 to/last.safetensors 2>/dev/null | grep -ao 'sshs_model_hash":"[0-9a-f]*')
    drawn=$(cat to/sample/0*.png 2>/dev/null | cksum)
}
mkdir only && cp -r img/1_dog only # one picture, so that an epoch is a step

train --max_train_steps 2 --save_state_on_train_end
mv to/last-state state
train --network_dim 4 --learning_rate 0.01
mv to/last.safetensors rank4.safetensors
train --learning_rate 0.01
mv to/last.safetensors rank2.safetensors

# What is seen: lora = another trained LoRA; same = the same one; drawn = other samples; needs =
# without the option there is no run; file F, gone F = F is there, or not, only with it; says T,
# keeps T = stderr, or the file's metadata, has T only with it; hides T, drops T = … only
# without it.
tried=
has() { # has WHAT TEXT: does the last run show it?
    case $1 in
    file | gone) [ -e "$2" ] ;;
    says | hides) grep -qF -- "$2" err ;;
    keeps | drops) head -c 60000 to/last.safetensors | grep -aqF -- "$2" ;;
    esac
}
try() { # OPTION WHAT TEXT BOTH WITH
    local what=$2 text=$3 both with without
    read -r -a both <<<"$4"
    read -r -a with <<<"$5"
    tried="$tried$1
"
    train "${both[@]}" "${with[@]}"
    exits 0
    local was_hash=$hash was_ran=$ran was_drawn=$drawn is=1
    has "$what" "$text" && is=0
    ! grep -F -- "$1 has no effect without" err
    check "told to have no effect" $?
    without=${base[=$4]:-}
    if [ "$what" != lora ] || [ -z "$without" ]; then
        train "${both[@]}"
        without=$code:$hash
        base[=$4]=$without
    fi
    ran="$was_ran ($1)"
    case $what in
    needs) [ "${without%%:*}" != 0 ] ;;
    lora) [ "${without%%:*}" = 0 ] && [ -n "$was_hash" ] && [ "$without" != "0:$was_hash" ] ;;
    same) [ -n "$was_hash" ] && [ "$without" = "0:$was_hash" ] ;;
    file | says | keeps) [ $is = 0 ] && ! has "$what" "$text" ;;
    drawn) [ -n "$was_drawn" ] && [ "$was_drawn" != "$drawn" ] ;;
    gone | hides | drops) [ $is = 1 ] && has "$what" "$text" ;;
    esac
    check "$what $text: not so; with the option $was_hash, without $without" $?
}
declare -A base=()

while IFS='|' read -r option what text both with; do
    [ -n "$option" ] && try "$option" "$what" "$text" "$both" "$with"
done <<END
--pretrained_model_name_or_path|lora|||--pretrained_model_name_or_path model2.safetensors
--v2|needs||--pretrained_model_name_or_path $golden/sd2/nano-sd2.safetensors --vae model1.safetensors --dry-run|--v2
--v_parameterization|lora|||--v_parameterization
--vae|lora|||--vae model2.safetensors
--dataset_config|needs||nodata|--dataset_config set.toml
--train_data_dir|needs||nodata|--train_data_dir only
--reg_data_dir|says|1 for regularisation||--reg_data_dir reg
--in_json|needs||--train_data_dir img/2_cat|--in_json meta.json
--output_dir|file|log/last.safetensors||--output_dir log
--output_name|file|to/mine.safetensors||--output_name mine
--save_model_as|file|to/last.ckpt||--save_model_as ckpt
--save_precision|lora|||--save_precision fp16
--save_every_n_epochs|file|to/epoch-000001.safetensors|--max_train_epochs 2|--save_every_n_epochs 1
--save_every_n_steps|file|to/at-step00000001.safetensors||--save_every_n_steps 1
--save_n_epoch_ratio|file|to/epoch-000001.safetensors|--max_train_epochs 2|--save_n_epoch_ratio 2
--save_last_n_epochs|gone|to/epoch-000001.safetensors|--max_train_epochs 3 --save_every_n_epochs 1|--save_last_n_epochs 1
--save_last_n_steps|gone|to/at-step00000001.safetensors|--max_train_steps 3 --save_every_n_steps 1|--save_last_n_steps 1
--save_last_n_epochs_state|gone|to/epoch-000001-state|--max_train_epochs 3 --save_every_n_epochs 1 --save_state|--save_last_n_epochs_state 1
--save_last_n_steps_state|gone|to/at-step00000001-state|--max_train_steps 3 --save_every_n_steps 1 --save_state|--save_last_n_steps_state 1
--save_state|file|to/at-step00000001-state|--save_every_n_steps 1|--save_state
--save_state_on_train_end|file|to/last-state||--save_state_on_train_end
--resume|says|goes on from 'state'|--max_train_steps 3|--resume state
--max_train_steps|lora|||--max_train_steps 2
--max_train_epochs|lora|||--max_train_epochs 2
--train_batch_size|lora||--train_data_dir img|--train_batch_size 2
--learning_rate|lora|||--learning_rate 1e-3
--unet_lr|lora|||--unet_lr 1e-3
--text_encoder_lr|lora|||--text_encoder_lr 1e-3
--lr_scheduler|lora||--max_train_steps 2|--lr_scheduler cosine
--lr_warmup_steps|lora||--lr_scheduler linear --max_train_steps 2|--lr_warmup_steps 50%
--lr_scheduler_num_cycles|lora||--lr_scheduler cosine_with_restarts --max_train_steps 3|--lr_scheduler_num_cycles 2
--lr_scheduler_power|lora||--lr_scheduler polynomial --max_train_steps 2|--lr_scheduler_power 2
--lr_decay_steps|lora||--lr_scheduler warmup_stable_decay --lr_scheduler_min_lr_ratio 0.1 --max_train_steps 3|--lr_decay_steps 2
--lr_scheduler_timescale|lora||--lr_scheduler inverse_sqrt --max_train_steps 2|--lr_scheduler_timescale 2
--lr_scheduler_min_lr_ratio|lora||--lr_scheduler cosine_with_min_lr --max_train_steps 2|--lr_scheduler_min_lr_ratio 0.5
--lr_scheduler_args|lora||--lr_scheduler piecewise_constant --lr_scheduler_args step_rules=1:1,1 --max_train_steps 2|--lr_scheduler_args step_rules=1:1,0.5
--optimizer_type|lora|||--optimizer_type Lion
--optimizer_args|lora||--max_train_steps 2|--optimizer_args weight_decay=0.5
--use_8bit_adam|lora||--network_dim 64 --max_train_steps 2|--use_8bit_adam
--use_lion_optimizer|lora|||--use_lion_optimizer
--max_grad_norm|lora||--optimizer_type SGDNesterov|--max_grad_norm 1e-3
--seed|lora|||--seed 2
--mixed_precision|lora|||--mixed_precision bf16
--full_fp16|lora||--mixed_precision fp16|--full_fp16
--full_bf16|lora||--mixed_precision bf16|--full_bf16
--no_half_vae|lora||--mixed_precision bf16|--no_half_vae
--cache_latents|lora||--max_train_steps 2|--cache_latents
--cache_latents_to_disk|file|only/1_dog/.graphrun-latents||--cache_latents_to_disk
--vae_batch_size|same||--train_data_dir img|--vae_batch_size 2
--gradient_checkpointing|says|nodes recomputed||--gradient_checkpointing
--gradient_accumulation_steps|lora||--train_data_dir img|--gradient_accumulation_steps 2
--clip_skip|lora|||--clip_skip 2
--max_token_length|lora|||--max_token_length 150
--weighted_captions|lora||--train_data_dir img --max_train_epochs 1|--weighted_captions
--network_module|lora|||--network_module networks.dylora
--network_dim|lora|||--network_dim 3
--network_alpha|lora|||--network_alpha 2
--network_args|lora|||--network_args conv_dim=2
--network_args conv_dim|lora||--network_args conv_dim=1|--network_args conv_dim=2
--network_args conv_alpha|lora||--network_args conv_dim=1|--network_args conv_dim=1 conv_alpha=2
--network_args unit|lora||--network_module networks.dylora --network_args unit=1|--network_args unit=2
--network_args block_dims|lora|||--network_args block_dims=2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,3
--network_args block_alphas|lora||--network_args block_dims=2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,3|--network_args block_dims=2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,3 block_alphas=1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,3
--network_args conv_block_dims|lora||--network_args block_dims=2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,3|--network_args block_dims=2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,3 conv_block_dims=1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1
--network_args conv_block_alphas|lora||--network_args block_dims=2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,3 conv_block_dims=1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1|--network_args block_dims=2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,3 conv_block_dims=1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1 conv_block_alphas=2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2
--network_args down_lr_weight|lora|||--network_args down_lr_weight=sine
--network_args mid_lr_weight|lora|||--network_args mid_lr_weight=2
--network_args up_lr_weight|lora|||--network_args up_lr_weight=cosine+.5
--network_args block_lr_zero_threshold|lora||--network_args down_lr_weight=linear|--network_args down_lr_weight=linear block_lr_zero_threshold=0.5
--network_args dropout|lora|||--network_args dropout=0.5
--network_args rank_dropout|lora|||--network_args rank_dropout=0.5
--network_args module_dropout|lora|||--network_args module_dropout=0.5
--network_args loraplus_lr_ratio|lora|||--network_args loraplus_lr_ratio=4
--network_args loraplus_unet_lr_ratio|lora|||--network_args loraplus_unet_lr_ratio=4
--network_args loraplus_text_encoder_lr_ratio|lora|||--network_args loraplus_text_encoder_lr_ratio=4
--network_weights|lora|||--network_weights rank2.safetensors
--dim_from_weights|needs||--network_weights rank4.safetensors|--dim_from_weights
--network_dropout|lora|||--network_dropout 0.5
--network_train_unet_only|lora|||--network_train_unet_only
--network_train_text_encoder_only|lora|||--network_train_text_encoder_only
--scale_weight_norms|lora||--learning_rate 1|--scale_weight_norms 1e-3
--base_weights|lora|||--base_weights rank4.safetensors
--base_weights_multiplier|lora||--base_weights rank4.safetensors|--base_weights_multiplier 0.5
--prior_loss_weight|lora||--reg_data_dir reg --max_train_epochs 1|--prior_loss_weight 0.1
--noise_offset|lora|||--noise_offset 0.1
--adaptive_noise_scale|lora||--noise_offset 0.1|--adaptive_noise_scale 0.5
--multires_noise_iterations|lora|||--multires_noise_iterations 3
--multires_noise_discount|lora||--multires_noise_iterations 3|--multires_noise_discount 0.7
--noise_offset_random_strength|lora||--noise_offset 0.1|--noise_offset_random_strength
--ip_noise_gamma|lora|||--ip_noise_gamma 0.2
--ip_noise_gamma_random_strength|lora||--ip_noise_gamma 0.2|--ip_noise_gamma_random_strength
--min_snr_gamma|lora||--optimizer_type SGDNesterov|--min_snr_gamma 1
--zero_terminal_snr|lora|||--zero_terminal_snr
--scale_v_pred_loss_like_noise_pred|lora||--v_parameterization --optimizer_type SGDNesterov|--scale_v_pred_loss_like_noise_pred
--v_pred_like_loss|lora||--optimizer_type SGDNesterov|--v_pred_like_loss 1
--debiased_estimation_loss|lora||--optimizer_type SGDNesterov|--debiased_estimation_loss
--min_timestep|lora|||--min_timestep 990
--max_timestep|lora|||--max_timestep 10
--loss_type|lora|||--loss_type l1
--huber_schedule|lora||--loss_type huber|--huber_schedule constant
--huber_c|lora||--loss_type huber|--huber_c 0.5
--huber_scale|lora||--loss_type huber --huber_schedule constant|--huber_scale 2
--masked_loss|same||--train_data_dir clear --alpha_mask|--masked_loss
--alpha_mask|lora||--train_data_dir clear|--alpha_mask
--sample_every_n_steps|file|to/sample|--sample_prompts prompts.txt --sample_every_n_epochs 9|--sample_every_n_epochs 9 --sample_every_n_steps 1 --sample_at_first
--sample_every_n_epochs|file|to/sample/e000001_00_20231114221320_5.png|--sample_prompts prompts.txt --sample_every_n_steps 9|--sample_every_n_epochs 1
--sample_prompts|needs||--sample_every_n_steps 1|--sample_prompts prompts.txt
--sample_sampler|drawn||--sample_prompts prompts.txt --sample_every_n_steps 1|--sample_sampler euler
--sample_at_first|file|to/sample/000000_00_20231114221320_5.png|--sample_prompts prompts.txt --sample_every_n_steps 1|--sample_at_first
--logging_dir|file|log||--logging_dir log
--log_prefix|file|log/run-20231114221320|--logging_dir log|--log_prefix run-
--log_tracker_name|file|log/20231114221320/mine|--logging_dir log|--log_tracker_name mine
--config_file|lora|||--config_file config.toml --network_dim 3
--training_comment|keeps|something-said||--training_comment something-said
--no_metadata|drops|ss_steps||--no_metadata
--validation_split|says|held out for validation|--train_data_dir img|--validation_split 0.3
--validation_seed|lora||--train_data_dir img --validation_split 0.4 --max_train_epochs 1|--validation_seed 2
--validate_every_n_steps|says|step 1|--train_data_dir img --validation_split 0.3 --max_train_steps 2|--validate_every_n_steps 1
--validate_every_n_epochs|hides|validation: step 3,|--train_data_dir img --validation_split 0.3 --max_train_epochs 2|--validate_every_n_epochs 2
--max_validation_steps|says|validation|--train_data_dir img|--validation_split 0.5 --max_validation_steps 1
--resolution|lora|||--resolution 64
--enable_bucket|lora|||--enable_bucket --min_bucket_reso 16 --bucket_reso_steps 8
--min_bucket_reso|lora||--enable_bucket --bucket_reso_steps 8 --min_bucket_reso 16|--min_bucket_reso 32
--max_bucket_reso|lora||--enable_bucket --bucket_reso_steps 8 --min_bucket_reso 16|--max_bucket_reso 32
--bucket_reso_steps|lora||--enable_bucket --bucket_reso_steps 8 --min_bucket_reso 16|--bucket_reso_steps 16
--bucket_no_upscale|lora||--train_data_dir img --max_train_epochs 1 --enable_bucket --bucket_reso_steps 8 --min_bucket_reso 16|--bucket_no_upscale
--resize_interpolation|lora||--train_data_dir img --max_train_epochs 1|--resize_interpolation nearest
--caption_extension|lora||--train_data_dir img --max_train_epochs 1|--caption_extension .txt
--caption_extention|lora||--train_data_dir img --max_train_epochs 1|--caption_extention .txt
--caption_separator|lora||--train_data_dir img --max_train_epochs 1 --shuffle_caption|--caption_separator ;
--shuffle_caption|lora||--train_data_dir img --max_train_epochs 1|--shuffle_caption
--keep_tokens|lora||--train_data_dir img --max_train_epochs 1 --shuffle_caption|--keep_tokens 4
--keep_tokens_separator|lora||--train_data_dir img --max_train_epochs 1 --shuffle_caption|--keep_tokens_separator %%%
--secondary_separator|lora||--train_data_dir img --max_train_epochs 1|--secondary_separator ;;
--enable_wildcard|lora||--train_data_dir img --max_train_epochs 1|--enable_wildcard
--caption_prefix|lora|||--caption_prefix photo
--caption_suffix|lora|||--caption_suffix photo
--color_aug|lora||--train_data_dir img --max_train_epochs 2|--color_aug
--flip_aug|lora||--train_data_dir img --max_train_epochs 2|--flip_aug
--face_crop_aug_range|lora||--train_data_dir face|--face_crop_aug_range 1.5,3.0
--random_crop|lora||--train_data_dir face|--random_crop
--token_warmup_min|lora||--train_data_dir img --max_train_epochs 1 --token_warmup_step 9|--token_warmup_min 2
--token_warmup_step|lora||--train_data_dir img --max_train_epochs 1|--token_warmup_step 9
--caption_dropout_rate|lora|||--caption_dropout_rate 1
--caption_dropout_every_n_epochs|lora|||--caption_dropout_every_n_epochs 1
--caption_tag_dropout_rate|lora||--train_data_dir img --max_train_epochs 1|--caption_tag_dropout_rate 0.9
--dataset_repeats|lora||--train_data_dir img/2_cat --in_json meta.json --max_train_epochs 1|--dataset_repeats 2
END

# options that wait for another are told; in the lines above they had it
idle=(--keep_tokens 1 --keep_tokens_separator %% --token_warmup_min 2 --min_bucket_reso 16
    --max_bucket_reso 64 --bucket_reso_steps 8 --bucket_no_upscale --validation_seed 1
    --lr_scheduler_num_cycles 2 --lr_scheduler_power 2 --lr_scheduler_timescale 2
    --lr_decay_steps 1 --lr_scheduler_min_lr_ratio 0.5 --huber_c 0.2 --huber_scale 2
    --huber_schedule constant --multires_noise_discount 0.5 --noise_offset_random_strength
    --ip_noise_gamma_random_strength --sample_at_first --sample_sampler euler
    --save_last_n_epochs 1 --save_last_n_steps 1 --save_last_n_epochs_state 1
    --save_last_n_steps_state 1 --log_prefix a --log_tracker_name b --log_with tensorboard)
train "${idle[@]}" --dry-run
exits 0
for option in "${idle[@]}"; do
    case $option in --*) says err "warning: $option has no effect without --" ;; esac
done
says err "warning: --huber_c has no effect without --loss_type huber or smooth_l1"
train --network_args down_lr_weight=0,2 --dry-run
exits 0
says err "10 block weights are missing at the end: they are 1"

# damaged latents on disk are found by their check sums, or not
train --cache_latents_to_disk
file=$(find only -path '*graphrun-latents*' -type f | head -1)
cp "$file" latents
size=$(wc -c <latents)
damaged() { # options…: one byte of the latents is another
    train --cache_latents_to_disk --dry-run # the folder is made anew
    mkdir -p "$(dirname "$file")"
    cp latents "$file"
    printf 'X' | dd of="$file" bs=1 seek=$((size - 3)) conv=notrunc 2>/dev/null
    keep=1 train --cache_latents_to_disk "$@"
    exits 0
}
damaged
checked=$hash
damaged --skip_cache_check
[ -n "$hash" ] && [ "$hash" != "$checked" ]
check "--skip_cache_check: the same LoRA as with the check" $?
tried="$tried--skip_cache_check
"

# what is not called an error has its file
runs "$GRAPHRUN" train --seed 1 --config_file made --output_config
exits 0
[ -s made.toml ]
check "no made.toml" $?
tried="$tried--output_config
"

# every option of the list
"$GRAPHRUN" train --help >help
sed -n '/^accepted, without effect/,$p' help >without
while IFS=$'\t' read -r option mark; do
    case $option in '#'*) continue ;; esac
    ran="$option ($mark)"
    if [ "$mark" = C ]; then # told, refused, or honoured all the same
        grep -q -- "^  ${option%%\**}" help
        check "graphrun train does not know it" $?
    else
        grep -qxF -- "$option" <<<"$tried"
        check "no line of this test tries it" $?
    fi
done <"$list"
finish
