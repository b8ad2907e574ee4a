package androidx.compose.material3

import androidx.compose.runtime.Composable
import androidx.compose.ui.Modifier
import androidx.compose.ui.graphics.Color

class TextStyle

class Typography(val titleLarge: TextStyle, val bodySmall: TextStyle)

class ColorScheme(val error: Color)

object MaterialTheme {
    val typography: Typography @Composable get() = TODO()
    val colorScheme: ColorScheme @Composable get() = TODO()
}

@Composable
fun MaterialTheme(content: @Composable () -> Unit): Unit = TODO("$content")

@Composable
fun Surface(modifier: Modifier = Modifier, content: @Composable () -> Unit): Unit = TODO("$modifier $content")

@Composable
fun Text(text: String, modifier: Modifier = Modifier, color: Color = Color.Unspecified, style: TextStyle = TextStyle()): Unit =
    TODO("$text $modifier $color $style")

@Composable
fun FilterChip(selected: Boolean, onClick: () -> Unit, label: @Composable () -> Unit, modifier: Modifier = Modifier): Unit =
    TODO("$selected $onClick $label $modifier")

@Composable
fun Slider(
    value: Float,
    onValueChange: (Float) -> Unit,
    modifier: Modifier = Modifier,
    enabled: Boolean = true,
    valueRange: ClosedFloatingPointRange<Float> = 0f..1f,
    steps: Int = 0,
    onValueChangeFinished: (() -> Unit)? = null,
): Unit = TODO("$value $onValueChange $modifier $enabled $valueRange $steps $onValueChangeFinished")

@Composable
fun Switch(checked: Boolean, onCheckedChange: ((Boolean) -> Unit)?, modifier: Modifier = Modifier): Unit =
    TODO("$checked $onCheckedChange $modifier")
