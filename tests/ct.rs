mod conntrack;
mod transparency;
