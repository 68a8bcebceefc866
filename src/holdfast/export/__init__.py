"""From adapter to files that llama.cpp and Ollama load: merge, convert, quantise, describe."""
