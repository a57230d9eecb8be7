## Takes the source of one sample after the other.
extends Node
