"""The radnode service: receives studies, runs models on them, delivers what they found."""
