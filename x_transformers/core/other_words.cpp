#include "x_transformers/core/other_words.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <utility>

namespace x_transformers {
namespace {

struct Entry {
  std::vector<std::string> words;
  OtherWord meaning;
};

/// Of models.
std::vector<Entry> model_words() {
  return {
      {{"n_layer", "n_layers", "num_layers", "num_hidden_layers", "layers", "nlayers",
        "num_encoder_layers", "num_decoder_layers"},
       {{"depth", "enc_depth", "dec_depth"}}},
      {{"n_head", "n_heads", "num_heads", "num_attention_heads", "nhead", "nheads",
        "attention_heads"},
       {{"heads", "enc_heads", "dec_heads"}}},
      {{"n_embd", "n_embed", "d_model", "hidden_size", "hidden_dim", "embed_dim", "embedding_dim",
        "embedding_size", "model_dim", "width"},
       {{"dim"}}},
      {{"block_size", "context_length", "context_size", "n_ctx", "ctx_len", "ctx_length",
        "n_positions", "max_length", "max_len", "max_position_embeddings", "max_sequence_length"},
       {{"max_seq_len", "seq_len"}}},
      {{"vocab_size", "n_vocab", "num_embeddings", "vocabulary_size", "n_tokens"},
       {{"num_tokens"}}},
      {{"n_kv_head", "n_kv_heads", "num_kv_heads", "num_key_value_heads", "kv_heads", "gqa",
        "grouped_query_attention"},
       {{"kv_heads", "attn_kv_heads"}}},
      {{"mqa", "multi_query", "multi_query_attention"}, {{"one_kv_head", "attn_one_kv_head"}}},
      {{"head_dim", "d_head", "dim_head", "d_k", "d_kv"}, {{"dim_head", "attn_dim_head"}}},
      {{"ff_dim", "ffn_dim", "d_ff", "d_ffn", "n_inner", "ff_hidden_dim", "hidden_features",
        "intermediate_size", "dim_feedforward", "mlp_dim", "ffn_hidden_size"},
       {{"mult", "ff_mult"}, "a multiple of dim"}},
      {{"mlp_ratio", "ffn_mult", "expansion_factor", "mlp_mult"}, {{"mult", "ff_mult"}}},
      {{"hidden_act", "activation", "activation_function", "act_fn"},
       {{"custom_activation", "ff_custom_activation"},
        "and glu, swish, relu_squared, solu of a feed-forward"}},
      {{"swiglu", "geglu", "glu"}, {{"glu", "ff_glu"}, "with swish it is SwiGLU"}},
      {{"dropout", "drop_rate", "p_dropout", "resid_dropout", "residual_dropout"},
       {{"dropout", "attn_dropout", "ff_dropout", "emb_dropout"}}},
      {{"attn_pdrop", "attn_drop", "attention_dropout", "attention_probs_dropout_prob"},
       {{"dropout", "attn_dropout"}}},
      {{"resid_pdrop", "hidden_dropout_prob", "hidden_dropout", "activation_dropout"},
       {{"dropout", "ff_dropout"}}},
      {{"embd_pdrop", "embed_dropout", "embedding_dropout"}, {{"emb_dropout"}}},
      {{"drop_path", "drop_path_rate", "layerdrop", "stochastic_depth"}, {{"layer_dropout"}}},
      {{"tie_word_embeddings", "tie_weights", "tied_embeddings", "weight_tying", "tie_embeddings",
        "share_embeddings"},
       {{"tie_embedding"}}},
      {{"rope", "use_rope", "rotary", "use_rotary", "rotary_emb", "rotary_embedding"},
       {{"rotary_pos_emb"}}},
      {{"rope_theta", "rope_base", "rotary_base", "rotary_emb_base", "theta"},
       {{"rotary_base_rescale_factor"},
        "the base is 10000 * factor ** (d / (d - 2)) with d = rotary_emb_dim"}},
      {{"rope_scaling", "rope_interpolation", "rope_factor"},
       {{"rotary_interpolation_factor", "rotary_base_rescale_factor"}}},
      {{"rotary_dim", "rotary_pct", "partial_rotary_factor"}, {{"rotary_emb_dim"}}},
      {{"alibi", "use_alibi"}, {{"alibi_pos_bias"}}},
      {{"t5_bias", "relative_attention_bias", "relative_position_bias"}, {{"rel_pos_bias"}}},
      {{"position_embedding", "position_embedding_type", "pos_encoding", "positional_encoding"},
       {{"rotary_pos_emb", "alibi_pos_bias", "rel_pos_bias"}}},
      {{"rmsnorm", "rms_norm", "use_rms_norm"}, {{"use_rmsnorm"}}},
      {{"norm_type", "norm_layer", "norm", "norm_class", "normalization"},
       {{"use_rmsnorm", "use_simple_rmsnorm", "use_scalenorm"}, "else it is a layer norm"}},
      {{"rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "layernorm_epsilon"},
       {{}, "", "norms have the epsilon that they have in Python"}},
      {{"bias", "use_bias", "attention_bias", "qkv_bias", "mlp_bias", "add_bias_linear"},
       {{"no_bias", "ff_no_bias"}, "attention has no biases"}},
      {{"initializer_range", "init_std"},
       {{}, "", "weights begin as those of Python do, which no option changes"}},
      {{"pad_token_id", "pad_token", "padding_idx"}, {{"pad_value", "pad_id"}}},
      {{"bos_token_id", "bos_token"}, {{}, "", "the tokenizer says which token begins a text"}},
      {{"num_experts", "n_experts", "num_local_experts", "moe"},
       {{}, "", "mixtures of experts are not built"}},
      {{"use_cache"},
       {{}, "", "leave it out: generate keeps keys and values wherever that gives the same text"}},
      {{"norm_first", "prenorm", "normalize_before"}, {{"pre_norm"}}},
      {{"causal", "is_causal", "autoregressive"},
       {{"causal"}, "", "leave it out: a Decoder is causal, an Encoder is not"}},
      {{"use_flash", "flash_attention", "flash_attn", "use_flash_attn", "sdpa",
        "attn_implementation"},
       {{"flash", "attn_flash"}}},
      {{"qk_layernorm", "query_key_norm", "use_qk_norm"}, {{"qk_norm", "attn_qk_norm"}}},
      {{"logit_softcap", "attn_logit_softcapping", "softcap"},
       {{"softclamp_logits", "attn_softclamp_logits", "logit_softclamp_value",
         "attn_logit_softclamp_value"}}},
      {{"attention_mask", "padding_mask", "key_padding_mask"}, {{"mask"}}},
      {{"sliding_window", "window_size", "local_window", "window", "attn_window"},
       {{"max_attend_past", "attn_max_attend_past"}}},
      {{"registers", "num_registers", "n_registers", "memory_tokens"}, {{"num_memory_tokens"}}},
  };
}

std::vector<Entry> data_words() {
  return {
      {{"bs", "batch", "batchsize", "micro_batch_size", "train_batch_size",
        "per_device_train_batch_size"},
       {{"batch_size"}}},
      {{"seq_length", "sequence_length", "seqlen", "context", "ctx", "max_seq_len"},
       {{"seq_len", "max_seq_len"}}},
      {{"packing", "sample_packing", "pack_sequences"}, {{"pack"}}},
      {{"dataset", "data_dir", "data_path", "train_file", "train_path", "train_data", "file",
        "files", "dir", "folder"},
       {{"path"}}},
      {{"val_file", "valid_path", "eval_file", "validation_file", "val_data", "test_path"},
       {{"val_path"}}},
      {{"val_split", "validation_split", "test_size", "split", "val_ratio", "eval_ratio",
        "train_split", "train_fraction"},
       {{"val_fraction"}}},
      {{"eval_iters", "max_eval_batches", "num_val_batches", "limit_val_batches", "eval_batch_size",
        "per_device_eval_batch_size"},
       {{"val_batches"}}},
      {{"pin_memory", "drop_last", "prefetch_factor", "persistent_workers"},
       {{}, "", "batches are whole, and read without workers"}},
      {{"shuffle", "sampler"}, {{"order"}, "random or epoch"}},
      {{"vocab", "vocab_file", "tokenizer_name", "tokenizer_path", "tokenizer_file", "encoding"},
       {{"tokenizer"}}},
  };
}

std::vector<Entry> train_words() {
  const OptionPath train("train");
  return {
      {{"epochs", "n_epochs", "num_epochs", "num_train_epochs", "max_epochs"},
       {{"steps"}, "updates of the weights, not passes over the data"}},
      {{"max_iters", "iters", "iterations", "n_iters", "num_iters", "nsteps", "max_steps",
        "num_steps", "n_steps", "total_steps", "updates", "lr_decay_iters"},
       {{"steps"}}},
      {{"lr", "max_lr", "peak_lr", "base_lr", "alpha", "step_size"}, {{"learning_rate"}}},
      {{"min_lr", "lr_min", "eta_min", "final_lr", "end_lr", "min_lr_ratio"},
       {{"min_learning_rate_ratio"}, "the last learning rate / learning_rate"}},
      {{"warmup", "warmup_iters", "warmup_updates", "num_warmup_steps"}, {{"warmup_steps"}}},
      {{"warmup_ratio", "warmup_epochs"}, {{"warmup_steps"}, "a number of steps"}},
      {{"scheduler", "lr_scheduler", "lr_scheduler_type", "lr_schedule", "decay_lr", "lr_decay"},
       {{"schedule"}}},
      {{"wd", "decay", "l2", "weight_decay_rate"}, {{"weight_decay"}}},
      {{"betas", "adam_betas"}, {{"beta1", "beta2"}}},
      {{"adam_beta1", "b1"}, {{"beta1"}}},
      {{"momentum", "sgd_momentum"}, {{"beta1", "muon_momentum"}, "of AdamW and Lion, or of Muon"}},
      {{"adam_beta2", "b2"}, {{"beta2"}}},
      {{"adam_epsilon", "adam_eps", "epsilon"}, {{"eps"}}},
      {{"opt", "optim", "optimiser", "adam", "adamw"},
       {{"optimizer"}, "adamw, lion, muon or adafactor"}},
      {{"sgd", "dampening", "amsgrad"},
       {{}, "", text("{} takes adamw, lion, muon and adafactor", option(train / "optimizer"))}},
      {{"fused", "foreach", "capturable"},
       {{}, "", "updates of the weights are fused as they are"}},
      {{"label_smoothing", "label_smoothing_factor"},
       {{}, "", "losses of tokens are not smoothed"}},
      {{"loss", "criterion", "loss_function"},
       {{"loss_fn"}, "", "what is made small is the loss of the model's wrapper"}},
      {{"clip", "grad_norm", "max_grad_norm", "gradient_clip_val", "clip_grad_norm",
        "grad_norm_clip"},
       {{"grad_clip"}}},
      {{"gradient_accumulation_steps", "accumulate_grad_batches", "grad_accum_steps", "accum_iter",
        "accumulation_steps", "grad_acc"},
       {{"grad_accum"}}},
      {{"ema", "use_ema", "ema_rate"}, {{"ema_decay"}}},
      {{"dtype", "bf16", "fp16", "amp", "mixed_precision", "autocast", "torch_dtype"},
       {{"precision"}, "fp32 or bf16"}},
      {{"tf32", "allow_tf32", "float32_matmul_precision"}, {{"matmul_precision"}}},
      {{"gpu", "cuda", "accelerator", "use_cuda", "no_cuda"}, {{"device"}}},
      {{"compile", "torch_compile", "cuda_graphs"}, {{"cuda_graph"}}},
      {{"num_threads", "n_threads", "workers", "num_workers", "num_cpus"}, {{"threads"}}},
      {{"random_seed", "manual_seed", "rng_seed"}, {{"seed"}}},
      {{"log_interval", "logging_steps", "print_every", "log_freq", "log_every_n_steps"},
       {{"log_every"}}},
      {{"eval_interval", "eval_steps", "val_every", "eval_freq", "validate_every",
        "val_check_interval", "check_val_every_n_epoch"},
       {{"eval_every"}}},
      {{"gradient_checkpointing", "activation_checkpointing", "use_checkpoint"},
       {{"checkpoint_every"}}},
      {{"zero_stage", "zero_optimization", "use_distributed_optimizer", "fsdp"}, {{"shard"}}},
      {{"save_interval", "save_steps", "ckpt_every", "save_freq"}, {{"save_every"}}},
      {{"save_total_limit", "keep_checkpoints", "max_checkpoints", "save_top_k"}, {{"keep_last"}}},
      {{"patience", "early_stopping", "early_stop"}, {{"early_stopping_patience"}}},
      {{"sample_interval", "generate_every"}, {{"sample_every"}}},
      {{"wandb", "wandb_log", "wandb_project", "report_to", "logging_dir", "tensorboard_dir"},
       {{"tensorboard"}, "beside metrics.jsonl"}},
      {{"always_save_checkpoint", "load_best_model_at_end"}, {{"save_every", "save_best"}}},
      {{"eval_only"}, {{}, "", "x-transformers evaluate measures a trained model"}},
      {{"out_dir", "output_dir", "save_dir", "run_dir", "checkpoint_dir", "out"},
       {{}, "", "the folder of a run is given beside its file"}},
      {{"resume", "resume_from", "resume_from_checkpoint"},
       {{}, "", "a run that is resumed goes on from the checkpoint of its own folder"}},
      {{"load_from", "checkpoint", "ckpt", "ckpt_path", "pretrained", "init_weights"},
       {{"init_from", "checkpoint"}}},
      {{"progress_bar", "enable_progress_bar", "tqdm"}, {{"progress"}}},
      {{"logger", "loggers"}, {{"tensorboard"}, "beside metrics.jsonl"}},
      {{"strategy", "backend", "devices", "num_gpus", "num_nodes", "nproc_per_node", "world_size",
        "ddp", "ddp_backend"},
       {{}, "", "several processes are started by mpirun, torchrun, srun or x-transformers train"}},
      {{"callbacks"},
       {{},
        "",
        text("there are {}, {} and {}", option(train / "early_stopping_patience"),
             option(train / "save_best"), option(train / "watch"))}},
  };
}

/// Of commands.
std::vector<Entry> program_words() {
  return {
      {{"sweep", "ablate", "ablation"}, {{"compare"}}},
      {{"eval", "perplexity"}, {{"evaluate"}}},
      {{"sample", "infer", "inference", "predict", "chat", "write"}, {{"generate"}}},
      {{"fit", "finetune", "fine_tune", "pretrain"}, {{"train"}}},
      {{"model", "model_file", "cfg", "conf"}, {{"config"}, "a model file or a run file"}},
      {{"inspect"},
       {{"watch"}, "while a run trains; x-transformers inspect looks inside a trained model"}},
  };
}

std::vector<Entry> generation_words() {
  return {
      {{"start", "input_text", "p"}, {{"prompt"}}},
      {{"num_samples", "num_return_sequences", "n_samples", "best_of"},
       {{}, "", "each call writes one text, and its seed chooses which"}},
      {{"max_new_tokens", "num_tokens_to_generate", "max_tokens", "n_predict", "length", "seq_len",
        "n"},
       {{"seq_len", "tokens", "sample_length"}}},
      // Of a model these are something else.
      {{"max_length", "max_len", "num_tokens", "n_tokens"}, {{"tokens"}}},
      {{"temp", "t"}, {{"temperature"}}},
      {{"repeat_penalty", "rep_penalty"}, {{"repetition_penalty"}}},
      {{"eos", "eos_token_id", "eos_id", "stop_token"}, {{"eos_token", "eos"}}},
      {{"num_beams", "beam_size", "beam_width", "n_beams"}, {{"beams"}}},
      {{"do_sample", "greedy"}, {{"greedy", "temperature"}}},
      {{"thres", "nucleus", "top_p_threshold"}, {{"top_p"}}},
  };
}

/// All words; those of models first.
std::vector<Entry> all_words() {
  std::vector<Entry> all;
  const auto add = [&](std::vector<Entry> entries, WordPlace place) {
    for (auto& entry : entries) {
      entry.meaning.place = place;
      all.push_back(std::move(entry));
    }
  };
  add(model_words(), WordPlace::model);
  add(data_words(), WordPlace::data);
  add(train_words(), WordPlace::train);
  add(program_words(), WordPlace::program);
  add(generation_words(), WordPlace::generate);
  // In files a text is what is trained on.
  add({{{"text"}, {{"prompt"}}}}, WordPlace::program);
  return all;
}

std::map<std::string, std::vector<OtherWord>> by_word() {
  std::map<std::string, std::vector<OtherWord>> words;
  for (const auto& entry : all_words()) {
    for (const auto& word : entry.words) words[word].push_back(entry.meaning);
  }
  return words;
}

std::map<std::string, WordPlace> by_option() {
  std::map<std::string, WordPlace> places;
  for (const auto& entry : all_words()) {
    for (const auto& option : entry.meaning.own_names) places.emplace(option, entry.meaning.place);
  }
  places["seq_len"] = WordPlace::data;  // which stands beside the model's max_seq_len
  return places;
}

}  // namespace

std::string plain_name(const std::string& name) {
  std::string text = name.substr(std::min(name.find_first_not_of('-'), name.size()));
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) {
    return c == '-' ? '_' : static_cast<char>(std::tolower(c));
  });
  return text;
}

const std::vector<OtherWord>& other_words(const std::string& name) {
  static const auto words = by_word();
  static const std::vector<OtherWord> none;
  const auto found = words.find(plain_name(name));
  return found == words.end() ? none : found->second;
}

std::optional<WordPlace> place_of_option(const std::string& name) {
  static const auto places = by_option();
  const auto found = places.find(plain_name(name));
  return found == places.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace x_transformers
