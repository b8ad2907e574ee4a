package androidx.compose.foundation.layout

import androidx.compose.runtime.Composable
import androidx.compose.ui.Alignment
import androidx.compose.ui.Modifier
import androidx.compose.ui.unit.Dp

object Arrangement {
    interface Horizontal

    interface Vertical

    interface HorizontalOrVertical : Horizontal, Vertical

    val Start: Horizontal get() = TODO()
    val Top: Vertical get() = TODO()

    fun spacedBy(space: Dp): HorizontalOrVertical = TODO("$space")
}

interface ColumnScope

interface RowScope

@Composable
fun Column(
    modifier: Modifier = Modifier,
    verticalArrangement: Arrangement.Vertical = Arrangement.Top,
    horizontalAlignment: Alignment.Horizontal = Alignment.Start,
    content: @Composable ColumnScope.() -> Unit,
): Unit = TODO("$modifier $verticalArrangement $horizontalAlignment $content")

@Composable
fun Row(
    modifier: Modifier = Modifier,
    horizontalArrangement: Arrangement.Horizontal = Arrangement.Start,
    verticalAlignment: Alignment.Vertical = Alignment.Top,
    content: @Composable RowScope.() -> Unit,
): Unit = TODO("$modifier $horizontalArrangement $verticalAlignment $content")

fun Modifier.fillMaxSize(fraction: Float = 1f): Modifier = TODO("$this $fraction")

fun Modifier.fillMaxWidth(fraction: Float = 1f): Modifier = TODO("$this $fraction")

fun Modifier.padding(all: Dp): Modifier = TODO("$this $all")

fun Modifier.safeDrawingPadding(): Modifier = TODO("$this")
